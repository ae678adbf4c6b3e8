"""Debian's packages that tests need and a machine may lack."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from windtunnel.locks import held

SECONDS = 900
APT = ("apt-get", "-q", "-y", "-o", f"DPkg::Lock::Timeout={SECONDS}")


def install(packages: Sequence[str]) -> None:
    """Install packages, as root on Debian. Processes of pytest-xdist take turns: apt-get refuses a second one beside it."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = [*APT, "install", "--no-install-recommends", *packages]
    with held(Path(tempfile.gettempdir(), "windtunnel-tests-apt.lock"), "apt-get", SECONDS):
        if subprocess.run(command, env=environment).returncode:
            subprocess.run([*APT, "update"], env=environment, check=True)
            subprocess.run(command, env=environment, check=True)
