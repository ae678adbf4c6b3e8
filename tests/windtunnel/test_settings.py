from pathlib import Path

import pytest

from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT, load_settings, run_directory


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """The defaults, whatever the settings of whoever runs the tests."""
    import os

    for name in os.environ:
        if name.startswith("WINDTUNNEL_"):
            monkeypatch.delenv(name)


def test_defaults_lie_in_the_project_and_listen_on_loopback():
    settings = load_settings()
    assert settings.home == ROOT / ".windtunnel"
    assert settings.dags == ROOT / "dags"
    assert settings.airflow_url == "http://127.0.0.1:8080"
    assert settings.mlflow_url == "http://127.0.0.1:5000"
    assert settings.tensorboard_url == "http://127.0.0.1:6006"
    assert settings.schedule == "@monthly"


def test_a_variable_changes_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("WINDTUNNEL_AIRFLOW_PORT", "18080")
    monkeypatch.setenv("WINDTUNNEL_HOME", "state")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.airflow_url == "http://127.0.0.1:18080"
    assert settings.runs == tmp_path / "state" / "runs"


@pytest.mark.parametrize(("given", "schedule"), [("none", None), ("", None), ("@weekly", "@weekly"), ("0 4 * * 1", "0 4 * * 1")])
def test_the_schedule_may_be_none(monkeypatch, given, schedule):
    monkeypatch.setenv("WINDTUNNEL_SCHEDULE", given)
    assert load_settings().schedule == schedule


def test_another_process_finds_the_same_settings_by_the_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path))
    monkeypatch.setenv("WINDTUNNEL_MLFLOW_HOST", "mlflow")
    monkeypatch.setenv("WINDTUNNEL_QUEUES", '{"tensorflow": "big"}')
    monkeypatch.setenv("WINDTUNNEL_RUNTIME", "docker")
    settings = load_settings()
    assert settings.queues == {"tensorflow": "big"}
    for name, value in settings.variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_servers_with_hosts_of_their_own_are_found_there_and_published_on_one(monkeypatch):
    for server in ("AIRFLOW", "MLFLOW", "TENSORBOARD", "TORCHSERVE", "TFSERVING"):
        monkeypatch.setenv(f"WINDTUNNEL_{server}_HOST", server.lower())
    settings = load_settings()
    assert (settings.mlflow_url, settings.published.mlflow_url) == ("http://mlflow:5000", "http://127.0.0.1:5000")
    assert (settings.torchserve_management_url, settings.torchserve_grpc) == ("http://torchserve:8081", "torchserve:7070")
    assert (settings.tfserving_grpc, settings.published.tfserving_grpc) == ("tfserving:8500", "127.0.0.1:8500")


HOSTS = [
    *(("HOST", host) for host in ("::1", "[::1]", "127.0.0.300", "127.0.1", "1", "", "http://127.0.0.1", "a b", "a..b", "x" * 64)),
    ("MLFLOW_HOST", "fe80::1"),
    ("TORCHSERVE_MANAGEMENT_HOST", "300.1.1.1"),
]


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "airflow-apiserver", "gpu1.example.org", "a_b", "1and1.example"])
def test_a_host_is_a_name_or_an_ipv4_address(monkeypatch, host):
    monkeypatch.setenv("WINDTUNNEL_HOST", host)
    assert load_settings().host == host


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("WINDTUNNEL_AIRFLOW_PORT", "70000", "'70000'"),
        ("WINDTUNNEL_MLFLOW_PORT", "five", "'five'"),
        ("WINDTUNNEL_RUNTIME", "kubernetes", "'kubernetes'"),
        *(
            (f"WINDTUNNEL_{name}", host, f"expected a host name or an IPv4 address, such as 127.0.0.1 (found {host!r})")
            for name, host in HOSTS
        ),
        ("WINDTUNNEL_HOME", "", "expected a folder (found '')"),
        ("WINDTUNNEL_HOME", "~nobody-of-this-name/x", "expected a folder: Could not determine home directory"),
        ("WINDTUNNEL_QUEUES", "{big", "expected JSON"),
        ("WINDTUNNEL_QUEUES", '{"keras": "big"}', "'keras'"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(monkeypatch, name, value, found):
    monkeypatch.setenv(name, value)
    with pytest.raises(WindtunnelError) as error:
        load_settings()
    assert str(error.value).startswith(f"{name}: ")
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_the_directory_of_a_run_has_a_name_that_can_be_mounted():
    directory = run_directory(Path("/home"), "lenet5", "manual__2026-11-22T23:46:41.5+00:00/../x y")
    assert directory == Path("/home/runs/lenet5/manual__2026-11-22T23-46-41.5-00-00-..-x-y")
