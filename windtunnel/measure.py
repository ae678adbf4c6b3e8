"""What every benchmark does: run programs, say how busy the machine is, show medians with their spread, keep the results."""

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
PATIENCE = 20  # looks before a machine that is not quiet is measured on


def execute(command: Iterable[Any]) -> str:
    """Run a program and return what it printed.

    Raises:
        WindtunnelError: it failed, or cannot be started.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    except OSError as error:
        raise WindtunnelError(f"{words[0]} cannot be started ({error.strerror}); `make setup` installs what is missing") from error
    except subprocess.CalledProcessError as error:
        raise WindtunnelError(f"{' '.join(words[:3])} ended with status {error.returncode}: {error.stderr.strip()[-500:]}") from error


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def load_before() -> float:
    """How busy the machine is now, in per cent; waits for a quiet one, but not for long, and then warns on stderr."""
    for _ in range(PATIENCE):
        if (load := psutil.cpu_percent(interval=LOOK_SECONDS)) <= BUSY:
            return load
    print(f"warning: the machine is {load:.0f} % busy before the benchmark begins; figures will be low, ratios less so", file=sys.stderr)
    return load


def spread(values: list[float]) -> str:
    """Median, and least to most in brackets."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def keep(home: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Write `NAME.json` and `NAME.txt` into the `benchmarks` folder of the platform's home."""
    write_json(home / f"benchmarks/{name}.json", result)
    write_atomically(home / f"benchmarks/{name}.txt", text.encode())
