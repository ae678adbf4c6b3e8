"""What tools find in the code. As tests, they run beside the others, and one that finds something does not keep the others from running."""

import subprocess
import sys
from pathlib import Path

import pytest

from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(0.9)  # fast, but not the last to begin
TOOLS = {
    "mypy": ["mypy"],
    "C++ tests": ["ctest", "--test-dir", "libtorch_cpp/build", "--output-on-failure"],
    "linter": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "import contracts": ["lint-imports", "--no-cache"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_finds_nothing(tool: str) -> None:
    program, *arguments = TOOLS[tool]
    done = subprocess.run([Path(sys.executable).parent / program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
