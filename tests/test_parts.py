"""The deadline of continuous integration, in a real run of pytest."""

import re
import subprocess
import sys
import time

import pytest

from windtunnel.settings import ROOT

FILE = "tests/windtunnel/test_waiting.py"


@pytest.mark.parametrize(("seconds", "result"), [(3600, "passed"), (-1, "skipped")])
def test_a_test_that_there_is_no_time_for_is_skipped_and_counted(seconds, result):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--end-by={time.time() + seconds}", FILE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"=+ \d+ {result} in .*", done.stdout.splitlines()[-1])
    assert ("NOT RUN: this machine is too slow" in done.stdout) == (result == "skipped")
