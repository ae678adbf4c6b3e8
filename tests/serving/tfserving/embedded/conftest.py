import os
import subprocess
import sys
from pathlib import Path

import pytest

from windtunnel.settings import ROOT


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of `embedded_models`, a base path a name."""
    directory = tmp_path_factory.mktemp("models")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    program = ROOT / "tests" / "serving" / "tfserving" / "embedded" / "embedded_models.py"
    subprocess.run([sys.executable, program, directory], env=environment, check=True, capture_output=True, timeout=300)
    return directory
