"""Files that are whole or absent, and known by their SHA-256."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """Write beside, flush to disk, rename: a reader sees the old file or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, file)
    except BaseException:
        os.unlink(beside)
        raise


def write_json(file: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically: equal values are equal bytes."""
    write_atomically(file, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
