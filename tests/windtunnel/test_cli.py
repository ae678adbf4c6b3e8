"""The command line where no platform runs; `tests/e2e/shared/test_platform.py` has the rest."""

import json
import os
import subprocess
import sys

import pytest
from spoken import recordings, zipped

from tests.waiting import PATIENCE


@pytest.fixture
def windtunnel(tmp_path):
    """Runs the command line with a home of its own, and wants an exit status."""

    def run(*arguments, status, **variables):
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path / "home")} | variables
        command = [sys.executable, "-c", "from windtunnel.cli import main; main()", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
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


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["run"], ["up", "--fast"], ["data", "mnist", "--json=yes"], ["bench", "--seconds=nan"], ["bench", "--rounds=99999"]],
)
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
    choices = "mnist, fashion_mnist, mini_speech_commands, demonstration, free_spoken_digits, demonstration_digits, "
    choices += "spoken_words, other_words or auto"
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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_gets_a_table_of_ascii(windtunnel, encoding):
    done = windtunnel("status", status=3, PYTHONIOENCODING=encoding)
    lines = done.stdout.splitlines()
    assert set(lines[0]) == set(lines[-1]) == {"+", "-"}
    assert any(line.split()[1] == "mlflow" for line in lines if line.startswith("| "))
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "variables", "line"),
    [
        (["up"], {"WINDTUNNEL_HOST": "::1"}, "WINDTUNNEL_HOST: expected a host name or an IPv4 address, such as 127.0.0.1 (found '::1')"),
        (["up"], {"WINDTUNNEL_HOST": "host.invalid"}, "WINDTUNNEL_HOST is host.invalid, which is no address of this machine ("),
        (["up"], {"WINDTUNNEL_HOST": "192.0.2.1"}, "WINDTUNNEL_HOST is 192.0.2.1, which is no address of this machine ("),
        (["down"], {"WINDTUNNEL_HOME": "/dev/null"}, "/dev/null: File exists. Check that path"),
        (["status"], {"WINDTUNNEL_ROOT": "/nowhere"}, "/nowhere/Procfile: No such file or directory. Check that path"),
        (["data", "mnist"], {"WINDTUNNEL_DATA": "~nobody-of-this-name"}, "WINDTUNNEL_DATA: expected folders with ':' between: Could not"),
        (["bench", "--batch", "1,99999999999999999999"], {}, "--batch is '1,99999999999999999999': give whole numbers from 1 to 1024"),
        (["predict", "lenet5-pytorch", "/"], {}, "/ is not a file: give a PNG, a JPEG, an .npy or an IDX file"),
        (["predict", "lenet5-pytorch", "/dev/null"], {}, "/dev/null is not a file"),
        (["predict", "lenet5-pytorch", ""], {}, ". is not a file"),
        (["predict", "speech-commands", "/"], {}, "/ cannot be read: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(windtunnel, arguments, variables, line):
    done = windtunnel(*arguments, status=1, **variables)
    assert done.stderr.splitlines()[-1].startswith(f"error: {line}")
    assert "Traceback" not in done.stderr
