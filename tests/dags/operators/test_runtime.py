"""A task's command as a process, without a running Airflow; tests/e2e runs real tasks."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import ROOT

RUN = """
import json, signal, sys
from types import SimpleNamespace
import structlog
from dags.operators.runtime import ProcessOperator

lines, skipped = [], []

def keep(logger, method, event):
    if "cannot be called outside of the Task Runner" not in event["event"]:
        lines.append(event["event"])
    raise structlog.DropEvent

operator = ProcessOperator(task_id="task", command=json.loads(sys.argv[1]))
structlog.configure(processors=[structlog.stdlib.PositionalArgumentsFormatter(), keep], cache_logger_on_first_use=False)
signal.signal(signal.SIGTERM, lambda *_: (operator.on_kill(), sys.exit(9)))
try:
    operator.execute({"ti": SimpleNamespace(xcom_push=lambda key, value: skipped.append([key, value]))})
    raised = None
except Exception as error:
    raised = [type(error).__name__, str(error)]
print("RESULT" + json.dumps({"lines": lines, "skipped": skipped, "raised": raised}))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process in which an operator runs a command."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": str(ROOT)}

    def begin(*command):
        return subprocess.Popen([sys.executable, "-c", RUN, json.dumps(command)], env=environment, stdout=subprocess.PIPE, text=True)

    return begin


@pytest.fixture
def run(start):
    """What came of a command that has run to its end."""

    def execute(*command):
        return json.loads(start(*command).communicate(timeout=PATIENCE)[0].partition("RESULT")[2])

    return execute


def python(code):
    return sys.executable, "-c", code


def test_the_log_holds_the_commands_lines_and_no_other(run):
    assert run(*python("import sys; print('out', flush=True); print('error', file=sys.stderr)")) == {
        "lines": ["out", "error"],
        "skipped": [],
        "raised": None,
    }


def test_no_line_is_lost_nor_one_that_is_not_utf_8(run):
    found = run(
        *python(r"import sys; [print(n) for n in range(50_000)]; sys.stdout.flush(); sys.stdout.buffer.write(b'\xff without an end')")
    )
    assert found["lines"] == [*map(str, range(50_000)), r"\xff without an end"]


def test_an_xcom_that_is_not_there_is_an_empty_word(run):
    assert run(*python("import sys; print(sys.argv[1:])"), None, 1)["lines"] == ["['', '1']"]


def test_status_99_skips_for_the_reason_in_the_last_line(run):
    found = run(*python("import sys; print('a line'); print('nothing to do'); sys.exit(99)"))
    assert found["skipped"] == [["skipped", "nothing to do"]]
    assert found["raised"][0] == "AirflowSkipException"


def test_another_status_fails_for_the_reason_in_the_last_line(run):
    kind, reason = run(*python("import sys; sys.exit('error: nothing can be done')"))["raised"]
    assert kind == "AirflowException"
    assert reason.endswith("ended with status 1: error: nothing can be done")


def test_a_command_that_cannot_start_says_which(run):
    assert run("/nowhere/trainer")["raised"] == ["FileNotFoundError", "[Errno 2] No such file or directory: '/nowhere/trainer'"]


def test_who_is_cancelled_ends_the_command_and_what_it_started(start, tmp_path):
    pids = tmp_path / "pids"
    code = f"""
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(pids) + ".new"!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids) + ".new"!r}, {str(pids)!r})
time.sleep(600)
"""
    task = start(*python(code))
    wait_for(lambda: pids.exists() or task.poll() is not None)
    assert task.poll() is None
    processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    task.terminate()
    assert task.wait(PATIENCE) == 9
    assert psutil.wait_procs(processes, timeout=PATIENCE)[1] == []
