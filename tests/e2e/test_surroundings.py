"""A platform in surroundings that harm its tools: the shell's environment, and the name of its folder."""

import pytest

HOSTILE = {
    "LC_ALL": "C",
    "ALL_PROXY": "socks5://127.0.0.1:1080",
    "http_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "localhost,[::1]",
    "no_proxy": "localhost,fe80::/10",
    "AIRFLOW__CORE__EXECUTOR": "no.such.Executor",
    "AIRFLOW__CORE__FERNET_KEY": "short",
    "MLFLOW_TRACKING_TOKEN": "x",
    "GUNICORN_CMD_ARGS": "--bind=0.0.0.0:1",
    "JAVA_TOOL_OPTIONS": "-Xmx1m",
    "PYTHONOPTIMIZE": "2",
    "PYTORCH_JIT": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "MPLBACKEND": "TkAgg",
    "SSL_CERT_FILE": "/dev/null/ca.pem",
}


def test_a_platform_runs_in_a_hostile_environment_and_a_folder_of_any_name(own_platform, tmp_path, monkeypatch):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    platform = own_platform(home=tmp_path / 'it\'s a:b "é" #1 %2F what? {x} & * a=b;c,d' / "home")
    said = next(line for line in platform.windtunnel("up").stderr.splitlines() if line.startswith("ignored environment variables: "))
    assert set(HOSTILE) - {"LC_ALL", "http_proxy"} <= set(said.partition(": ")[2].split(", "))
    assert platform.json("status")["up"]
    assert platform.json("run", "trivial")["state"] == "success"
    assert platform.json("models") == []
    assert {file.name for file in platform.settings.home.glob("*.db")} == {"airflow.db", "mlflow.db"}


@pytest.mark.parametrize("setting", ["home", "dags"])
def test_a_folder_that_cannot_be_is_refused_before_anything_starts(own_platform, tmp_path, setting):
    platform = own_platform(**{setting: tmp_path / "[a]"})
    error = platform.windtunnel("up", status=1).stderr
    assert error.startswith(
        f"error: WINDTUNNEL_{setting.upper()}: found '{tmp_path}/[a]', expected a path of printable characters without $[]"
    )
    assert error.count("\n") == 1
    assert platform.processes() == []
