import os
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT


@pytest.fixture
def execute(tmp_path):
    """Runs a benchmark with a home of its own."""

    def run(module, *arguments):
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path)}
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)

    return run
