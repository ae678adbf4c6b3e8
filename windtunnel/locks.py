"""Locks between processes: waiting has a timeout, and the message names the process that holds the lock."""

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
    """Hold the lock `file`, and write into it which process holds it.

    Args:
        file: the lock file; it and its folder are created if they are missing.
        what: what the lock protects, for messages, such as "the benchmark".
        seconds: the timeout.
        say: called with a message if this process has to wait for another one.

    Raises:
        WindtunnelError: another process still holds the lock after `seconds`.
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
            raise WindtunnelError(f"{problem}: wait until that process has ended, or end it ({file})") from None
    try:
        command = " ".join(shlex.join(sys.orig_argv).split())[:LONGEST_COMMAND]
        file.write_text(f"process {os.getpid()} ({command}) since {datetime.now().astimezone().isoformat(' ', 'seconds')}")
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str:
    """Return what the holder has written; it may not have written anything yet."""
    try:
        return file.read_text() or "another process"
    except OSError:
        return "another process"
