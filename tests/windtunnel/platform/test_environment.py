import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from windtunnel.errors import WindtunnelError
from windtunnel.platform.environment import ignored, mlflow_store, platform_environment
from windtunnel.platform.secrets import password_file
from windtunnel.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", airflow_port=18080, schedule=None)


def test_secrets_are_made_once_and_for_the_owner_alone(settings):
    first, again = platform_environment(settings), platform_environment(settings)
    for name in ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"):
        assert first[name] == again[name]
        assert len(first[name]) >= 32
    assert len(json.loads(password_file(settings).read_text())["admin"]) >= 16
    assert {file.stat().st_mode & 0o777 for file in (settings.home / "secrets").iterdir()} == {0o600}


def test_two_homes_share_no_secret(settings, tmp_path):
    other = settings.model_copy(update={"home": tmp_path / "other"})
    assert platform_environment(settings)["AIRFLOW__API_AUTH__JWT_SECRET"] != platform_environment(other)["AIRFLOW__API_AUTH__JWT_SECRET"]


def test_tasks_find_the_same_settings(settings, monkeypatch):
    for name, value in platform_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_addresses_follow_the_ports(settings):
    environment = platform_environment(settings)
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"
    assert environment["MLFLOW_TRACKING_URI"] == settings.mlflow_url


HARMFUL = {
    "ALL_PROXY": "socks5://127.0.0.1:1080",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
    "AIRFLOW_CONFIG": "/dev/null/none",
    "MLFLOW_TRACKING_TOKEN": "x",
    "PYTHONINSPECT": "1",
    "PYTHONHOME": "/dev/null/none",
    "PYTORCH_JIT": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "jax",
    "GUNICORN_CMD_ARGS": "--bind=0.0.0.0",
    "JAVA_TOOL_OPTIONS": "-Xmx1m",
    "TS_CONFIG_FILE": "/dev/null/none",
    "FORKED_BY_MULTIPROCESSING": "1",
    "GRPC_TRACE": "all",
    "MPLBACKEND": "TkAgg",
    "GIT_DIR": "/dev/null/none",
    "SSL_CERT_FILE": "/dev/null/none",
}
NEEDED = {
    "HOME": "/home/somebody",
    "LANG": "de_DE.UTF-8",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca.pem",
    "PIP_INDEX_URL": "https://pip.example/simple",
    "WINDTUNNEL_DATA": "/data",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Haswell",
    "LD_LIBRARY_PATH": "/opt/lib",
    "AIRFLOW_VAR_TEAM": "birds",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def test_what_changes_the_tools_is_left_out_and_named_and_what_is_needed_stays(settings, monkeypatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in (HARMFUL | NEEDED).items():
        monkeypatch.setenv(name, value)
    environment = platform_environment(settings)
    assert {name: value for name, value in environment.items() if name in HARMFUL} == {}
    assert {name: environment.get(name) for name in NEEDED} == NEEDED
    assert ignored(settings) == sorted(HARMFUL)


def test_what_the_platform_sets_itself_is_named_where_it_was_set_otherwise(settings, monkeypatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {"AIRFLOW__API__WORKERS": "1", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "PYTHONPATH": "/other"}.items():
        monkeypatch.setenv(name, value)
    assert ignored(settings) == ["AIRFLOW__CORE__EXECUTOR", "PYTHONPATH"]
    assert platform_environment(settings)["AIRFLOW__CORE__EXECUTOR"] == "dags.plugins.executor.QuietExecutor"
    assert platform_environment(settings)["PYTHONPATH"] == str(settings.root)


def test_a_no_proxy_that_cannot_be_read_is_named_and_the_rest_of_it_kept(settings, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org,fe80::/10")
    monkeypatch.setenv("no_proxy", "example.org,fe80::/10")
    assert {"NO_PROXY", "no_proxy"} <= set(ignored(settings))
    assert platform_environment(settings)["no_proxy"] == "example.org,127.0.0.1,localhost"


@pytest.mark.parametrize(
    "name",
    ["plain", "what?", "feature%2Fa", "100%", "a b", "#1", "a;b", "it's", 'say "x"', "mé", "a&b=c", "a+b", "~"],
)
def test_the_databases_are_in_the_home_whatever_it_is_called(tmp_path, name):
    settings = Settings(home=tmp_path / name / "home")
    databases = {"airflow": platform_environment(settings)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], "mlflow": mlflow_store(settings)}
    for tool, url in databases.items():
        assert make_url(url).database == str(settings.home / f"{tool}.db")
        assert make_url(url).query == {"timeout": "60"}
        if not set(name) & set("%?"):  # MLflow makes the folder that the URL names, unread
            assert url == f"sqlite:///{settings.home}/{tool}.db?timeout=60"


@pytest.mark.parametrize(
    "name", ["$HOME", "[a]", "a\\b", "a\nb", "a\udcff"], ids=["dollar", "brackets", "backslash", "newline", "undecodable"]
)
@pytest.mark.parametrize("setting", ["root", "home", "dags"])
def test_a_folder_that_airflow_would_take_for_another_is_refused_in_one_line(settings, setting, name):
    named = settings.model_copy(update={setting: Path("/somewhere") / name})
    with pytest.raises(WindtunnelError, match=f"^WINDTUNNEL_{setting.upper()}: found '/somewhere/.* expected a path of") as caught:
        platform_environment(named)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("package", ["serving", "train_server", "windtunnel"])
def test_onnx_runtime_is_told_to_report_to_nobody_before_it_is_imported(package):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = f"import os, sys, {package}; print(os.environ.get('ORT_DISABLE_TELEMETRY'), 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
