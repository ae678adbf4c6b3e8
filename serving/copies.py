"""Copies of directories that are whole or absent."""

import shutil
from pathlib import Path

from windtunnel.files import sha256


def replace_copy(source: Path, target: Path) -> None:
    """Copy a directory beside its place, then rename it; what was there before goes."""
    partial, old = (target.with_name(f".{target.name}.{word}") for word in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(source, partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def digests(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file below a directory, by its relative path."""
    return {str(file.relative_to(directory)): sha256(file) for file in directory.rglob("*") if file.is_file()}
