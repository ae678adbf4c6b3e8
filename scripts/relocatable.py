"""Let .venv work wherever the project is moved or copied to: its programs take the Python beside them, and that the project around it.

    .venv/bin/python scripts/relocatable.py

pip writes the folder's path into both. Without this, a copy of the project would run the original's code, on the original's platform.
"""

import os
import re
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What pip begins a program with: the Python, or, where a path is long or has a space, a shell that starts it.
OF_PIP = re.compile(rb"\A#!(?:/[^\n]*/bin/python[\d.]*|/bin/sh\n'''exec' [^\n]*\n' ''')\n")
# The path of the shell's own tools is fixed: a caller may have set another PATH.
BESIDE = b"""#!/bin/sh
'''exec' "$(PATH=/usr/bin:/bin; dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""


def main() -> None:
    """Rewrite the programs of this Python's virtual environment, and its way to the project."""
    for program in Path(sysconfig.get_path("scripts")).iterdir():
        if program.is_file() and not program.is_symlink():
            _replace(program, OF_PIP.sub(lambda _: BESIDE, program.read_bytes()))
    packages = Path(sysconfig.get_path("purelib"))
    _replace(packages / "_windtunnel.pth", f"{os.path.relpath(ROOT, packages)}\n".encode())


def _replace(file: Path, content: bytes) -> None:
    """Put a new file in the place of one that differs; the old may have another name elsewhere, by a hard link."""
    if file.read_bytes() == content:
        return
    descriptor, beside = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    os.chmod(beside, file.stat().st_mode)
    os.replace(beside, file)


if __name__ == "__main__":
    main()
