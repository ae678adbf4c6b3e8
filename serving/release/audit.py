"""The audit log of releases: a JSON line for each time the version that users get has changed. The lines are a chain of digests."""

import fcntl
import json
import mmap
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.release import chain
from serving.release.chain import BrokenChainError, Chain
from windtunnel.errors import WindtunnelError

LOG = "audit.jsonl"
DIGEST = re.compile(r"[0-9a-f]{64}")

_TIME = re.compile(rb'"time": "([0-9T:.+-]*)"')


def note(home: Path, **what: Any) -> None:
    """Append a line with the time and `what` to the audit log in `home`. It is on disk when this returns.

    A lock on the log keeps other writers waiting. A line that a power cut has torn stays, in a line of its own.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
        content = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **what}
        if os.fstat(descriptor).st_size:
            with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as file:
                added = chain.addition(file, content)
        else:
            added = chain.addition(b"", content)
        while added:  # a disk that is almost full takes a part, and the next time says that it is full
            added = added[os.write(descriptor, added) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(home: Path) -> list[dict[str, Any]]:
    """Return the lines of the audit log in `home`, oldest first, without those that are cut off.

    Raises:
        WindtunnelError: a line cannot be read.
        OSError: the log cannot be read.
    """
    file = _bytes(home)
    found = []
    for number, line in enumerate(chain.split(file), 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number not in chain.cut_off(file):
                where = f"line {number} of the audit log {home / LOG} cannot be read ({error})"
                raise WindtunnelError(f"{where}. Compare the log with a backup, or move the file") from error
    return found


def verify(home: Path, digest: str | None = None) -> Chain:
    """Return the chain that the lines of the audit log in `home` make.

    Args:
        home: the folder of the log.
        digest: that of a line, which was kept elsewhere.

    Raises:
        WindtunnelError: a line was changed, removed, added or put elsewhere, or none has the digest.
        OSError: the log cannot be read.
    """
    file = _bytes(home)
    log = f"the audit log {home / LOG}"
    if digest is not None and not DIGEST.fullmatch(digest):
        raise WindtunnelError(f"the digest is {digest!r}: expected 64 hexadecimal digits, as `windtunnel audit --verify` prints them")
    try:
        found = chain.check(file)
    except BrokenChainError as error:
        time = _TIME.search(chain.split(file)[error.number - 1])
        when = time[1].decode(errors="replace") if time else "without a time"
        raise WindtunnelError(f"{log} is broken at line {error.number} ({when}): {error}. Compare the log with a backup") from error
    if digest is not None and digest not in found.lines:
        last = f"its {len(found.lines)} lines with digests end with {next(reversed(found.lines), 'none')}"
        raise WindtunnelError(f"{log} has no line with the digest {digest}: {last}. Lines were removed; compare the log with a backup")
    return found


def _bytes(home: Path) -> bytes:
    """Return the bytes of the log in `home`, between two writes."""
    try:
        with (home / LOG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return file.read()
    except FileNotFoundError:
        return b""
