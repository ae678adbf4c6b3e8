"""How a program ends when the operating system refuses something. What a user can mend is one line."""

import subprocess
import sys

import pytest

from tests.waiting import PATIENCE
from windtunnel.platform.program import explain


def ended(code: str) -> subprocess.CompletedProcess[str]:
    program = f"from windtunnel.platform.program import run_program\ndef main():\n    {code}\nrun_program(main)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("open('/dev/null/x')", "error: /dev/null/x: Not a directory. Check that path\n"),
        ("open('/')", "error: /: Is a directory. Check that path\n"),
        ("open('/nowhere/x')", "error: /nowhere/x: No such file or directory. Check that path\n"),
        ("open('/dev/full', 'wb', 0).write(b'x')", "error: the output, or a file: No space left on device. Free some space, or set"),
        ("open('/' + 'x' * 300)", f"error: /{'x' * 300}: File name too long. Check that path\n"),
        ("open('/sys/kernel/x', 'w')", "error: /sys/kernel/x: "),
    ],
    ids=["not a directory", "a directory", "missing", "full", "long", "forbidden"],
)
def test_what_the_system_refuses_is_one_line_with_the_next_step(code, line):
    done = ended(code)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (13, "HOME/x: Permission denied for user "),
        (1, "HOME/x: Operation not permitted for user "),
        (30, "HOME/x: Read-only file system. Set WINDTUNNEL_HOME to a writable folder"),
        (28, "HOME/x: No space left on device. Free some space, or set WINDTUNNEL_HOME to a folder on another disk"),
        (122, "HOME/x: Disk quota exceeded. Free some space"),
    ],
)
def test_the_next_step_fits_the_reason(number, words):
    import os

    assert explain(OSError(number, os.strerror(number), "HOME/x")).startswith(words)
