"""The command line where no platform runs; `tests/e2e/test_platform.py` has the rest."""

import json
import os
import subprocess
import sys

import pytest
from spoken import recordings, zipped


@pytest.fixture
def windtunnel(tmp_path):
    """Runs the command line with a home of its own, and wants an exit status."""

    def run(*arguments, status, **variables):
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path / "home")} | variables
        command = [sys.executable, "-c", "from windtunnel.cli import main; main()", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done

    return run


def test_help_names_every_command(windtunnel):
    done = windtunnel("--help", status=0)
    for command in ("up", "down", "status", "run", "models", "data"):
        assert command in done.stdout


def test_the_start_loads_nothing_heavy():
    code = "import sys, windtunnel.cli; print({'airflow', 'mlflow', 'torch', 'tensorflow', 'numpy', 'httpx', 'psutil'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("arguments", [["fly"], ["run"], ["up", "--fast"], ["data", "mnist", "--json=yes"]])
def test_wrong_usage_is_status_2(windtunnel, arguments):
    assert windtunnel(*arguments, status=2).stdout == ""


def test_a_wrong_setting_is_one_line(windtunnel):
    done = windtunnel("status", status=1, WINDTUNNEL_AIRFLOW_PORT="many")
    assert done.stderr.startswith("error: WINDTUNNEL_AIRFLOW_PORT: ")
    assert done.stderr.count("\n") == 1


def test_run_without_a_platform_says_how_to_start_one(windtunnel, tmp_path):
    done = windtunnel("run", "lenet5", status=1)
    assert done.stderr == f"error: there is no platform in {tmp_path / 'home'}: start one with `windtunnel up`\n"


def test_models_without_a_platform_is_one_line(windtunnel):
    done = windtunnel("models", status=1, WINDTUNNEL_MLFLOW_PORT="9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:9 ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_data_set_is_one_line(windtunnel):
    done = windtunnel("data", "cats", status=1)
    choices = "mnist, fashion_mnist, mini_speech_commands, demonstration or auto"
    assert done.stderr == f"error: data set 'cats' is unknown: choose {choices}\n"


def test_recordings_are_data_sets_too(windtunnel, tmp_path):
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "mini_speech_commands.zip").write_bytes(zipped(recordings()))
    done = windtunnel("data", "mini_speech_commands", "--json", status=0, WINDTUNNEL_DATA=str(tmp_path))
    assert done.stderr == f"Mini Speech Commands in {tmp_path / 'speech'}\n"
    found = json.loads(done.stdout)
    assert (found["name"], found["directory"]) == ("mini_speech_commands", str(tmp_path / "speech"))
    assert list(found["files"]) == ["mini_speech_commands.zip"]
    assert found["counts"] == {"train": 16, "validation": 0, "test": 0}
    done = windtunnel("data", "mini_speech_commands", status=0, WINDTUNNEL_DATA=str(tmp_path))
    assert done.stdout == f"{tmp_path / 'speech'}\nSHA-256 {found['fingerprint']}\ntrain 16, validation 0, test 0\n"


def test_down_where_nothing_runs_is_done(windtunnel):
    assert windtunnel("down", status=0).stdout == "The platform was down already.\n"
