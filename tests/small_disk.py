"""A small disk, to fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A disk in memory at a new folder, of a size such as `2g`. Only what is written takes memory."""
    if os.geteuid():
        pytest.skip("NO FULL DISK IS TESTED: only root can mount a disk. Run this as root")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
