"""Write files and directories atomically, and compute their SHA-256."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """Write a temporary file, flush it to disk and rename it: a reader sees the old file or the new one, never a part."""
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
    """Write `value` atomically as indented JSON with sorted keys: equal values give equal bytes."""
    write_atomically(file, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def replace_copy(source: Path, target: Path) -> None:
    """Copy the directory `source` to a temporary name beside `target`, then replace `target` by renaming the copy."""
    partial, old = (target.with_name(f".{target.name}.{word}") for word in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(source, partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a directory, by relative path."""
    return {str(file.relative_to(directory)): sha256(file) for file in directory.rglob("*") if file.is_file()}
