"""What is collected does not depend on when, where and under which settings."""

import os
import subprocess
import sys
import time
from pathlib import Path

from windtunnel.settings import ROOT

OTHERWISE = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "HOME": "/nonexistent", "WINDTUNNEL_HOME": "/nonexistent", "COLUMNS": "40"}


def collect(cwd: Path, seed: int, **changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", str(ROOT / "tests")]
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTEST_ADDOPTS": ""} | changes
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_collect_the_same_tests_whenever_and_wherever_they_start(tmp_path: Path) -> None:
    """pytest-xdist ends a run whose processes have collected different tests."""
    first = collect(ROOT, seed=1)
    time.sleep(1.1)  # another second on the clock: what the first imports, the other imports later
    other = collect(tmp_path, seed=2, **OTHERWISE)
    found = [[line for line in process.communicate()[0].splitlines() if "::" in line] for process in (first, other)]
    assert (first.returncode, other.returncode) == (0, 0), found
    assert len(found[0]) == len(set(found[0])) > 1000
    assert found[0] == found[1]
