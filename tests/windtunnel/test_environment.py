import json
import os
import subprocess
import sys

import pytest

from windtunnel.environment import password_file, platform_environment
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


@pytest.mark.parametrize("package", ["serving", "train_server", "windtunnel"])
def test_onnx_runtime_is_told_to_report_to_nobody_before_it_is_imported(package):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = f"import os, sys, {package}; print(os.environ.get('ORT_DISABLE_TELEMETRY'), 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
