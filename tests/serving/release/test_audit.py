import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from serving.release import audit, chain
from tests.waiting import PATIENCE
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

OLDER = '{"time": "2026-01-01T00:00:00.000+00:00", "action": "promote", "model": "lenet5-pytorch"}\n'
WRITER = """
import sys
from pathlib import Path
from serving.release import audit
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    audit.note(Path(sys.argv[1]), writer=sys.argv[2], number=number, why="x" * 3000 * (number % 5))
"""


@pytest.fixture
def home(tmp_path):
    """A folder with a log of three lines with digests."""
    for number in range(3):
        audit.note(tmp_path, model="lenet5-pytorch", number=number)
    return tmp_path


def test_a_line_is_added_with_its_time(tmp_path):
    assert audit.read(tmp_path / "serving") == []
    audit.note(tmp_path / "serving", model="lenet5-pytorch", why="a\nb")
    audit.note(tmp_path / "serving", model="lenet5-libtorch", who=None)
    first, second = audit.read(tmp_path / "serving")
    assert (first["model"], first["why"], second["who"]) == ("lenet5-pytorch", "a\nb", None)
    assert first["time"] <= second["time"]
    assert [json.loads(line) for line in (tmp_path / "serving" / audit.LOG).read_text().splitlines()] == [first, second]


def test_processes_that_write_at_once_make_one_chain(tmp_path):
    writers, lines = 6, 50
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    running = [subprocess.Popen([*command, str(each), str(lines)], **pipes) for each in range(writers)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    checked = [audit.verify(tmp_path) for _ in range(20)]  # while they write: no line is seen in part
    for process in running:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    found = audit.verify(tmp_path)
    assert list(found.lines.values()) == list(range(1, writers * lines + 1))
    assert all(each.lines.items() <= found.lines.items() for each in checked)
    read = audit.read(tmp_path)
    for writer in range(writers):
        assert [line["number"] for line in read if line["writer"] == str(writer)] == list(range(lines))
    order = [line["writer"] for line in read]
    assert sum(one != other for one, other in pairwise(order)) > writers  # they did write at once
    assert [line["time"] for line in read] == sorted(line["time"] for line in read)


def test_threads_that_write_at_once_make_one_chain(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: audit.note(tmp_path, number=number), range(100)))
    assert len(audit.verify(tmp_path).lines) == 100


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_line_that_a_power_cut_has_torn_is_named_and_stops_nothing(home, left):
    log = home / audit.LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + lines[2][:left])
    with pytest.raises(WindtunnelError, match=r"is broken at line 3 \(.*\): it is cut off, by a power cut or by somebody\. The next"):
        audit.verify(home)
    before = len(audit.read(home))
    audit.note(home, number=3)
    audit.note(home, number=4)
    found = audit.verify(home)
    torn = left != -1  # a line without its line break is whole
    assert (found.cut_off, list(found.lines.values())) == (([3], [1, 2, 4, 5]) if torn else ([], [1, 2, 3, 4, 5]))
    assert log.read_bytes().splitlines()[2] == lines[2][:left]
    assert [line["number"] for line in audit.read(home)] == ([0, 1, 3, 4] if torn else [0, 1, 2, 3, 4])
    assert len(audit.read(home)) == before + 2
    log.write_bytes(log.read_bytes().replace(lines[2][:left] + b"\n", b""))
    with pytest.raises(WindtunnelError, match="is broken at line 3"):
        audit.verify(home)


def test_a_log_of_an_older_version_is_read_and_continued(tmp_path):
    log = tmp_path / audit.LOG
    log.write_text(2 * OLDER)
    assert audit.verify(tmp_path) == chain.Chain({}, 2, [])
    audit.note(tmp_path, model="lenet5-libtorch")
    assert [line["model"] for line in audit.read(tmp_path)] == ["lenet5-pytorch", "lenet5-pytorch", "lenet5-libtorch"]
    found = audit.verify(tmp_path)
    assert (found.older, list(found.lines.values())) == (2, [3])
    assert log.read_text().startswith(2 * OLDER)
    log.write_text(log.read_text().replace("promote", "nothing", 1))
    with pytest.raises(WindtunnelError, match=r"at line 1 \(2026-01-01T00:00:00\.000\+00:00\): one of the lines 1 to 2, which are older"):
        audit.verify(tmp_path)


def test_the_line_its_time_and_the_next_step_are_said(home):
    log = home / audit.LOG
    time = audit.read(home)[1]["time"]
    log.write_text(log.read_text().replace('"number": 1', '"number": 7'))
    said = f"the audit log {log} is broken at line 2 ({time}): it was changed or added. Compare the log with a backup"
    with pytest.raises(WindtunnelError) as found:
        audit.verify(home)
    assert str(found.value) == said
    assert len(audit.read(home)) == 3  # it can still be read


def test_a_digest_that_was_kept_shows_that_lines_were_removed_at_the_end(home):
    log = home / audit.LOG
    kept = list(audit.verify(home).lines)
    assert all(audit.verify(home, digest) for digest in kept)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    assert len(audit.verify(home).lines) == 2  # the log alone does not show it
    with pytest.raises(WindtunnelError, match=f"has no line with the digest {kept[2]}: its 2 lines with digests end with {kept[1]}"):
        audit.verify(home, kept[2])
    log.unlink()
    with pytest.raises(WindtunnelError, match="its 0 lines with digests end with none"):
        audit.verify(home, kept[2])
    with pytest.raises(WindtunnelError, match=r"the digest is 'abc': expected 64 hexadecimal digits, as `windtunnel audit --verify`"):
        audit.verify(home, "abc")


def test_a_line_that_cannot_be_read_is_named(home):
    with (home / audit.LOG).open("a") as log:
        log.write('{"time": \n')
    with pytest.raises(WindtunnelError, match=r"line 4 of the audit log .* cannot be read \(.*\)\. Compare the log with a backup"):
        audit.read(home)
