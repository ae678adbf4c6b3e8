"""Make .venv relocatable: its programs use the Python in their own folder, and that Python imports the project that contains it.

    .venv/bin/python scripts/relocatable.py

pip writes absolute paths. Without this script, a moved or copied project would run the code of the original, on the original's platform.
"""

import os
import re
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The first lines of a program that pip installs: the Python, or, if the path is long or contains a space, a shell that starts it.
OF_PIP = re.compile(rb"\A#!(?:/[^\n]*/bin/python[\d.]*|/bin/sh\n'''exec' [^\n]*\n' ''')\n")
# The PATH for the shell's tools is fixed, because a caller may have set another one.
BESIDE = b"""#!/bin/sh
'''exec' "$(PATH=/usr/bin:/bin; dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""


def main() -> None:
    """Rewrite the programs of this Python's virtual environment, and its path to the project."""
    for program in Path(sysconfig.get_path("scripts")).iterdir():
        if program.is_file() and not program.is_symlink():
            _replace(program, OF_PIP.sub(lambda _: BESIDE, program.read_bytes()))
    packages = Path(sysconfig.get_path("purelib"))
    _replace(packages / "_windtunnel.pth", f"{os.path.relpath(ROOT, packages)}\n".encode())


def _replace(file: Path, content: bytes) -> None:
    """Replace a file if its content differs. Create a new file, because the old one may be a hard link to a file elsewhere."""
    if file.read_bytes() == content:
        return
    descriptor, beside = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    os.chmod(beside, file.stat().st_mode)
    os.replace(beside, file)


if __name__ == "__main__":
    main()
