"""Locks between processes: a wait has a limit, and says who is waited for."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from windtunnel.errors import WindtunnelError

LONGEST_COMMAND = 200


@contextmanager
def held(file: Path, what: str, seconds: float, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold the lock in `file`, in which stands meanwhile who holds it.

    Args:
        file: made where it is missing, as its folder is.
        what: what the lock is of, such as "the benchmark".
        seconds: how long to wait for another process at most.
        say: called with a line when there is one to wait for.

    Raises:
        WindtunnelError: another process still holds it after so many seconds.
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for {what}: locked by {_holder(file)}")
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            problem = f"{what} is still locked after {seconds:g} s by {_holder(file)}"
            raise WindtunnelError(f"{problem}: wait until that has ended, or end it ({file})") from None
    try:
        command = " ".join(shlex.join(sys.orig_argv).split())[:LONGEST_COMMAND]
        file.write_text(f"process {os.getpid()} ({command}) since {datetime.now().astimezone().isoformat(' ', 'seconds')}")
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str:
    """What the holder has written; it may be about to."""
    try:
        return file.read_text() or "another process"
    except OSError:
        return "another process"
