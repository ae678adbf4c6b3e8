"""Start a process of the Procfile: the supervisor runs `python -m windtunnel.platform.supervised` for each.

A killed process leaves children (MLflow's workers, the scheduler's tasks, …) that hold its ports and its work: they are killed first.
"""

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from windtunnel.files import write_json
from windtunnel.platform.processes import NAME, PLATFORM, kill, running

SERVER = "{server}"  # in the Procfile: the name of each declared backend


@dataclass(frozen=True)
class Start:
    """The last start of a process: its pid, the time in seconds since the epoch, and the number of the start since `windtunnel up`."""

    pid: int
    time: float
    number: int


def supervisor_directory(home: Path) -> Path:
    """Return the folder in which the supervisor and its processes keep the state that `windtunnel status` reads."""
    return home / "supervisor"


def process_names(root: Path, servers: Iterable[str]) -> list[str]:
    """Return the names of the processes in the `Procfile`. Its line `{server}` stands for a process per model server."""
    return [name for line in _commands(root) for name in (servers if line == SERVER else (line,))]


def last_start(home: Path, name: str) -> Start | None:
    """Return the last start of a process, None if it was never started."""
    try:
        return Start(**json.loads(_record(home, name).read_text()))
    except FileNotFoundError:
        return None


def forget_starts(home: Path) -> None:
    """Reset the counts of starts."""
    for file in supervisor_directory(home).glob("*.json"):
        file.unlink()


def _record(home: Path, name: str) -> Path:
    return supervisor_directory(home) / f"{name}.json"


def _commands(root: Path) -> dict[str, str]:
    """Return the shell command of each line of the `Procfile`, by name."""
    return dict(re.findall(r"^([\w-]+|{server}):\s*(.+)$", (root / "Procfile").read_text(), re.MULTILINE))


def _command(root: Path, name: str) -> str:
    """Return the shell command of a process."""
    lines = _commands(root)
    return lines[name] if name in lines else lines[SERVER].replace(SERVER, name)


def main() -> None:
    """Kill the remaining children of the previous start, record this start, and replace this process with the command."""
    name, home, root = os.environ[NAME], Path(os.environ[PLATFORM]), Path(os.environ["WINDTUNNEL_ROOT"])
    ended = kill(lambda: [process for process in running(home).get(name, []) if process.pid != os.getpid()])
    before = last_start(home, name)
    start = Start(os.getpid(), time.time(), before.number + 1 if before else 1)
    write_json(_record(home, name), asdict(start))
    if before:
        print(f"{name}: start {start.number}, killed {ended} processes left by the previous start", flush=True)
    os.setpgid(0, os.getpgid(os.getppid()))  # a group leader, as which the supervisor starts it, cannot call setsid
    os.setsid()  # Linux divides CPU time among sessions first: training in the scheduler's session does not slow down the servers
    os.chdir(root)
    os.execvp("sh", ["sh", "-c", _command(root, name)])


if __name__ == "__main__":
    main()
