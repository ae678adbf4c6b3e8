"""Become a process of the Procfile: `python -m windtunnel.supervised`, as the supervisor starts it.

What a killed process leaves behind (MLflow's workers, the scheduler's tasks, …) holds its ports and its work: it is ended first.
"""

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from windtunnel.files import write_json
from windtunnel.processes import NAME, PLATFORM, kill, running


@dataclass(frozen=True)
class Start:
    """The last start of a process: its pid, when, in seconds since the epoch, and which one since `windtunnel up` it was, from 1."""

    pid: int
    time: float
    number: int


def supervisor_directory(home: Path) -> Path:
    """Where the supervisor and the processes that it starts keep what `windtunnel status` reads."""
    return home / "supervisor"


def commands(root: Path) -> dict[str, str]:
    """The shell command of each process in the `Procfile`, by name."""
    return dict(re.findall(r"^([\w-]+):\s*(.+)$", (root / "Procfile").read_text(), re.MULTILINE))


def last_start(home: Path, name: str) -> Start | None:
    """The last start of a process, None if there was none."""
    try:
        return Start(**json.loads(_record(home, name).read_text()))
    except FileNotFoundError:
        return None


def forget_starts(home: Path) -> None:
    """Count the starts from 1 again."""
    for file in supervisor_directory(home).glob("*.json"):
        file.unlink()


def _record(home: Path, name: str) -> Path:
    return supervisor_directory(home) / f"{name}.json"


def main() -> None:
    """End what is left of the process before, note the start, become the command."""
    name, home, root = os.environ[NAME], Path(os.environ[PLATFORM]), Path(os.environ["WINDTUNNEL_ROOT"])
    ended = kill(lambda: [process for process in running(home).get(name, []) if process.pid != os.getpid()])
    before = last_start(home, name)
    start = Start(os.getpid(), time.time(), before.number + 1 if before else 1)
    write_json(_record(home, name), asdict(start))
    if before:
        print(f"{name}: start {start.number}, {ended} processes of the one before were left and are ended", flush=True)
    os.setpgid(0, os.getpgid(os.getppid()))  # as the leader of a group, which the supervisor has made it, it could not do the next
    os.setsid()  # Linux shares processors out among sessions first: training in the scheduler's does not slow the servers down
    os.chdir(root)
    os.execvp("sh", ["sh", "-c", commands(root)[name]])


if __name__ == "__main__":
    main()
