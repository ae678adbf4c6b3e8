import os
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE

SAYS = "╭─┬─╮ │ ✓ 0.3 ≤ 1 × … é 漢 \udcff"
PROGRAM = f"from windtunnel.platform.program import run_program\ndef main(): print({SAYS!a})\nrun_program(main)"


def say(program: str = PROGRAM, **options):
    variables = options.pop("variables", {})
    return subprocess.run([sys.executable, "-c", program], env=os.environ | variables, stderr=subprocess.PIPE, timeout=PATIENCE, **options)


@pytest.mark.parametrize(
    ("variables", "encoding", "text"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii", "+-+-+ | + 0.3 <= 1 x ... ? ? ?"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "+-+-+ | + 0.3 <= 1 × ... é ? ?"),
        ({"PYTHONIOENCODING": "cp437"}, "cp437", "+─┬─+ │ + 0.3 ≤ 1 x ... é ? ?"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii", "+-+-+ | + 0.3 <= 1 x ... ? ? ?"),
        ({"PYTHONIOENCODING": "utf-8"}, "utf-8", "╭─┬─╮ │ ✓ 0.3 ≤ 1 × … é 漢 ?"),
    ],
    ids=["ASCII", "Latin-1", "code page 437", "locale C", "UTF-8"],
)
def test_what_an_encoding_lacks_is_written_as_what_is_most_like_it(variables, encoding, text):
    done = say(variables=variables, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding) == f"{text}\n"


@pytest.mark.parametrize("lines", [1, 100_000], ids=["less than a buffer", "more than a buffer"])
def test_a_reader_that_has_gone_is_no_error(lines):
    reader, writer = os.pipe()
    os.close(reader)
    done = say(
        f"from windtunnel.platform.program import run_program\ndef main(): print('a line\\n' * {lines})\nrun_program(main)", stdout=writer
    )
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("lines", [1, 100_000], ids=["less than a buffer", "more than a buffer"])
def test_output_that_cannot_be_written_is_one_line_and_status_1(lines):
    with open("/dev/full", "wb") as full:
        done = say(
            f"from windtunnel.platform.program import run_program\ndef main(): print('a line\\n' * {lines})\nrun_program(main)", stdout=full
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the output, or a file: No space left on device. Free some space")
    assert done.stderr.count(b"\n") == 1


def test_output_that_is_closed_is_no_error():
    done = say(preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, b"")
