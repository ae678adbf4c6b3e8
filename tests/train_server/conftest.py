import os
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT


@pytest.fixture
def execute(tmp_path):
    """Runs a module of the train server with a home of its own."""

    def run(module, *arguments):
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path)}
        command = [sys.executable, "-m", f"train_server.{module}", *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)

    return run
