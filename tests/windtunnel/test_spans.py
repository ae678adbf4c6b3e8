import signal
import subprocess
import sys
import time

import pytest

from tests.processes import started
from windtunnel.errors import WindtunnelError
from windtunnel.run import Run
from windtunnel.settings import ROOT
from windtunnel.spans import Span, noted, split

PROGRAM = """
import signal, sys, time
before = time.monotonic()
from pathlib import Path
from windtunnel.run import Run
from windtunnel.spans import noted
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
with noted(Run(Path(sys.argv[1])), "training"):
    print(time.monotonic() - before, flush=True)
    if sys.stdin.readline() == "failure\\n":
        raise ValueError
"""
TICK = 0.02  # Linux notes a process's start in hundredths of a second


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def read(run):
    return [Span.model_validate_json(line) for line in run.spans.read_text().splitlines()]


@pytest.mark.parametrize("end", ["success", "failure", "SIGTERM"])
def test_a_program_notes_its_time_however_it_ends_with_its_imports(run, end):
    before = time.monotonic()
    command = [sys.executable, "-c", PROGRAM, run.directory]
    with started(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        so_far = float(program.stdout.readline())
        if end == "SIGTERM":
            program.send_signal(signal.SIGTERM)
            program.wait()
        else:
            program.communicate(f"{end}\n")
    assert program.returncode == (end != "success")
    (span,) = read(run)
    assert span.activity == "training"
    assert so_far < span.ended - span.started < time.monotonic() - before + TICK


def test_each_program_adds_its_time(run):
    for activity in ("training", "training", "measuring"):
        with noted(run, activity):
            pass
    assert [span.activity for span in read(run)] == ["training", "training", "measuring"]


def test_what_ended_before_a_run_started_again_counts_nothing(run):
    spans = [
        Span(activity="training", started=10, ended=40),
        Span(activity="training", started=95, ended=110),
        Span(activity="measuring", started=110, ended=150),
    ]
    run.spans.write_text("".join(f"{span.model_dump_json()}\n" for span in spans))
    found = split(run, 100, 200)
    assert found["seconds"] == 100
    assert {name: part["seconds"] for name, part in found["parts"].items()} == {"training": 10, "measuring": 40, "orchestration": 50}
    assert {name: part["percent"] for name, part in found["parts"].items()} == {"training": 10, "measuring": 40, "orchestration": 50}


def test_a_run_that_noted_nothing_has_no_split(run):
    assert split(run, 100, 200) is None


@pytest.mark.parametrize("line", ["", "{", '{"activity": "waiting", "started": 1, "ended": 2}'], ids=["empty", "cut off", "unknown"])
def test_a_line_that_is_not_a_span_is_named(run, line):
    run.spans.write_text(f"{line}\n")
    with pytest.raises(WindtunnelError, match=r"spans\.jsonl has a line that is not a span: .*; remove that line"):
        split(run, 100, 200)
