"""The command line where no platform runs; `tests/e2e/shared/test_platform.py` has the rest."""

import json
import os
import subprocess
import sys

import pytest

from tests.extension import installed
from tests.waiting import PATIENCE
from tests.windtunnel.data.spoken import recordings, zipped


@pytest.fixture
def windtunnel(tmp_path):
    """Runs the command line with a home of its own, and wants an exit status."""

    def run(*arguments, status, **variables):
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path / "home")} | variables
        command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done.stderr
        return done

    return run


def test_help_names_every_command(windtunnel):
    done = windtunnel("--help", status=0)
    for command in ("up", "down", "status", "run", "models", "data"):
        assert command in done.stdout


def test_the_start_loads_nothing_heavy():
    code = (
        "import sys, windtunnel.cli.app; print({'airflow', 'mlflow', 'torch', 'tensorflow', 'numpy', 'httpx', 'psutil'} & set(sys.modules))"
    )
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
    (tmp_path / "speech" / "mini_speech_commands.zip").write_bytes(zipped(recordings(tuple(f"{number:08x}" for number in range(30)))))
    done = windtunnel("data", "mini_speech_commands", "--json", status=0, WINDTUNNEL_DATA=str(tmp_path))
    assert done.stderr.startswith(f"Mini Speech Commands in {tmp_path / 'speech'}\nwarning: mini_speech_commands has only 48 test clips: ")
    found = json.loads(done.stdout)
    assert (found["name"], found["directory"]) == ("mini_speech_commands", str(tmp_path / "speech"))
    assert list(found["files"]) == ["mini_speech_commands.zip"]
    assert found["counts"] == {"train": 176, "validation": 16, "test": 48}
    done = windtunnel("data", "mini_speech_commands", status=0, WINDTUNNEL_DATA=str(tmp_path))
    assert done.stdout == f"{tmp_path / 'speech'}\nSHA-256 {found['fingerprint']}\ntrain 176, validation 16, test 48\n"


def test_data_sets_of_other_packages_are_found_too(windtunnel, tmp_path):
    with installed(tmp_path / "extension"):
        done = windtunnel("data", "anything", status=0)
        assert done.stderr == "anything: blobs are drawn\n"
        assert done.stdout.splitlines()[-1] == "train 320, test 32"
        done = windtunnel("data", "spoken_words", status=1, WINDTUNNEL_DATA="~nobody-of-this-name")  # the project's own names come first
        assert done.stderr.startswith("error: WINDTUNNEL_DATA")
    with installed(tmp_path / "wrong", "[windtunnel.models]\nspots = extension:NOTHING\n"):
        wrong, error = windtunnel("data", "cats", status=1).stderr.splitlines()
    assert wrong.startswith("wrong declaration: the entry point spots = extension:NOTHING")
    assert error.startswith("error: data set 'cats' is unknown: choose mnist, fashion_mnist, ")


def test_down_where_nothing_runs_is_done(windtunnel):
    assert windtunnel("down", status=0).stdout == "The platform is already down.\n"


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
        (["up"], {"WINDTUNNEL_HOST": "host.invalid"}, "WINDTUNNEL_HOST: found host.invalid, expected an address of this machine ("),
        (["up"], {"WINDTUNNEL_HOST": "192.0.2.1"}, "WINDTUNNEL_HOST: found 192.0.2.1, expected an address of this machine ("),
        (["down"], {"WINDTUNNEL_HOME": "/dev/null"}, "/dev/null: File exists. Check that path"),
        (["status"], {"WINDTUNNEL_ROOT": "/nowhere"}, "/nowhere/Procfile: No such file or directory. Check that path"),
        (["data", "mnist"], {"WINDTUNNEL_DATA": "~nobody-of-this-name"}, "WINDTUNNEL_DATA: expected folders separated by ':': Could not"),
        (
            ["bench", "--batch", "1,99999999999999999999"],
            {},
            "invalid --batch: found '1,99999999999999999999', expected whole numbers from 1 to 1024",
        ),
        (["predict", "lenet5-pytorch", "/"], {}, "/ is not a file: expected a PNG, a JPEG, an .npy or an IDX file"),
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


def test_status_tells_each_wrong_declaration_in_a_line(windtunnel, tmp_path):
    wrong = "[windtunnel.models]\nspots = extension:NOTHING\n[windtunnel.backends]\necho = extension:A_NUMBER"
    with installed(tmp_path / "extension", wrong):
        done = windtunnel("status", status=3)
    lines = [line for line in done.stderr.splitlines() if line.startswith("wrong declaration: the entry point ")]
    assert ["echo = extension:A_NUMBER" in lines[0], "spots = extension:NOTHING" in lines[1], len(lines)] == [True, True, 2]
    assert "torchserve" in done.stdout
    assert "echo" not in done.stdout
