"""Helpers of all benchmarks: run programs, report how busy the machine is, format medians with their spread, save results."""

import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.settings import ROOT

BUSY = 20  # per cent
LOOK_SECONDS = 0.5
PATIENCE = 20  # checks before a benchmark starts on a busy machine


def execute(command: Iterable[Any]) -> str:
    """Run a program and return its output.

    Raises:
        WindtunnelError: the program failed or cannot be started.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    except OSError as error:
        raise WindtunnelError(f"{words[0]} cannot be started ({error.strerror}); `make setup` installs what is missing") from error
    except subprocess.CalledProcessError as error:
        raise WindtunnelError(f"{' '.join(words[:3])} ended with status {error.returncode}: {error.stderr.strip()[-500:]}") from error


def cpu() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def load_before() -> float:
    """Wait until the machine is idle and return its CPU load in per cent. After a timeout, warn on stderr and return."""
    for _ in range(PATIENCE):
        if (load := psutil.cpu_percent(interval=LOOK_SECONDS)) <= BUSY:
            return load
    print(f"warning: the CPU load is {load:.0f} % before the benchmark begins; it lowers all figures, and ratios less", file=sys.stderr)
    return load


def spread(values: list[float]) -> str:
    """Format the median, with minimum and maximum in brackets."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def keep(home: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Write `NAME.json` and `NAME.txt` into the `benchmarks` folder of the platform's home."""
    write_json(home / f"benchmarks/{name}.json", result)
    write_atomically(home / f"benchmarks/{name}.txt", text.encode())
