"""The package in examples/, installed for real."""

import shutil
import subprocess
import sys
from pathlib import Path

from windtunnel.settings import ROOT


def install(folder: Path, *target: str) -> None:
    """Install a copy of the package, which is put into `folder`, with pip and without a network. `target` says where, as flags of pip."""
    source = folder / "examples"
    shutil.copytree(ROOT / "examples", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    python, into = ([], target) if target[0] == "--target" else (target, ())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *python, "install", "--quiet", "--no-index"]
    done = subprocess.run([*pip, "--no-deps", "--no-build-isolation", *into, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
