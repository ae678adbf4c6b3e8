"""Programs that tests start: they take signals as a person's do, and none is left behind."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

# What a script starts in the background ignores SIGINT and SIGQUIT, and so does all that is started by it, such as the tests.
AS_IN_A_TERMINAL = ("env", "--default-signal=INT,QUIT")


def has_ended(process: psutil.Process) -> bool:
    """Whether it has; a zombie, which only waits for its parent, has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return True


@contextmanager
def started(command: Sequence[str | Path], **arguments: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start a command, with what subprocess.Popen takes; it and what it has started is killed in the end, whatever happens."""
    process = subprocess.Popen([*AS_IN_A_TERMINAL, *command], **arguments)
    try:
        yield process
    finally:
        if process.returncode is None:  # what has been waited for may have given its number to another
            leader = psutil.Process(process.pid)
            for each in [leader, *leader.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()
