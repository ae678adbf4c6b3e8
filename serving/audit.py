"""The audit log of the releases: a line, in JSON, for each time users began to get another version."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG = "audit.jsonl"


def note(home: Path, **what: Any) -> None:
    """Append a line with the time and `what` to the audit log in `home`. On disk when this returns; lines are never torn."""
    home.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **what}) + "\n"
    descriptor = os.open(home / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(home: Path) -> list[dict[str, Any]]:
    """The lines of the audit log in `home`, oldest first."""
    log = home / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
