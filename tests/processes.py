"""Programs that tests start: they take signals as a person's do, and none is left behind."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

# What a script starts in the background ignores SIGINT and SIGQUIT, and so does all that is started by it, such as the tests.
AS_IN_A_TERMINAL = ("env", "--default-signal=INT,QUIT")


@contextmanager
def started(command: Sequence[str | Path], **arguments: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start a command, with what subprocess.Popen takes; it and what it has started is killed in the end, whatever happens."""
    process = subprocess.Popen([*AS_IN_A_TERMINAL, *command], **arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()
