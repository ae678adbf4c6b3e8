import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.waiting import PATIENCE, wait_for
from tests.windtunnel.data.loopback_mirror import Mirror
from windtunnel.data.download import DownloadError, Wanted, download, fetch
from windtunnel.data.idx import MAX_BYTES, read_idx

LARGE = "train-images-idx3-ubyte"
PROGRAM = """
import json, sys
from pathlib import Path
from windtunnel.data.download import download
files, mirror, directory = json.loads(sys.argv[1])
download(files, [mirror], Path(directory))
"""


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def in_another_process(files: dict[str, bytes], mirror: Mirror, directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps([digests(files), mirror.url, str(directory)])])


def names(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()} - {".lock"}


@pytest.fixture
def files(tiny_set: Callable[[int], dict[str, bytes]]) -> dict[str, bytes]:
    return tiny_set(1)


@pytest.fixture
def large(files: dict[str, bytes]) -> dict[str, bytes]:
    """One file, of some 230 kB even when gzipped."""
    return {LARGE: files[LARGE]}


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / f"{LARGE}.part.gz"


def is_right(directory: Path, files: dict[str, bytes]) -> bool:
    return names(directory) == {f"{name}.gz" for name in files} and all(
        read_idx(directory / name)[1] == digest for name, digest in digests(files).items()
    )


def test_what_is_lacking_is_downloaded(files: dict[str, bytes], mirror: Mirror, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mirror.publish(files)
    (tmp_path / LARGE).write_bytes(files[LARGE])
    download(digests(files), [mirror.url], tmp_path)
    assert [request.path for request in mirror.requests] == [f"/{name}.gz" for name in files if name != LARGE]
    assert all(read_idx(tmp_path / name)[1] == digest for name, digest in digests(files).items())
    shown = capfd.readouterr()
    assert "train-labels-idx1-ubyte" in shown.err
    assert shown.out == ""


def test_a_cut_connection_is_continued_where_it_broke_off(large: dict[str, bytes], mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(large)
    mirror.cuts = [100_000, 50_000]
    download(digests(large), [mirror.url], tmp_path)
    assert [request.range for request in mirror.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert sum(request.sent for request in mirror.requests) == len(mirror.files[f"/{LARGE}.gz"])
    assert is_right(tmp_path, large)


def test_a_silent_connection_is_continued_too(
    large: dict[str, bytes], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windtunnel.data.download.TIMEOUT", httpx.Timeout(5))
    mirror.publish(large)
    mirror.stall_after = 150_000
    download(digests(large), [mirror.url], tmp_path)
    assert [request.range for request in mirror.requests] == [None, "bytes=150000-"]
    assert is_right(tmp_path, large)


def test_the_next_mirror_continues_what_another_began(large: dict[str, bytes], start_mirror: Callable[[], Mirror], tmp_path: Path) -> None:
    first, second = start_mirror(), start_mirror()
    first.publish(large)
    second.publish(large)
    first.cuts = [70_000, 0]
    download(digests(large), [first.url, second.url], tmp_path)
    assert [request.range for request in second.requests] == ["bytes=70000-"]
    assert is_right(tmp_path, large)


def test_a_killed_process_leaves_a_part_that_the_next_one_continues(
    large: dict[str, bytes], mirror: Mirror, tmp_path: Path, part: Path
) -> None:
    mirror.publish(large)
    mirror.stall_after = 120_000
    process = in_another_process(large, mirror, tmp_path)
    try:
        wait_for(lambda: part.exists() and part.stat().st_size > 50_000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == {part.name}
    mirror.stall_after = None
    there = part.stat().st_size
    download(digests(large), [mirror.url], tmp_path)
    assert mirror.requests[-1].range == f"bytes={there}-"
    assert mirror.requests[-1].sent == len(mirror.files[f"/{LARGE}.gz"]) - there
    assert is_right(tmp_path, large)


def test_a_server_without_ranges_starts_over(large: dict[str, bytes], mirror: Mirror, tmp_path: Path, part: Path) -> None:
    mirror.publish(large)
    mirror.knows_ranges = False
    part.write_bytes(mirror.files[f"/{LARGE}.gz"][:1000])
    download(digests(large), [mirror.url], tmp_path)
    assert [request.range for request in mirror.requests] == ["bytes=1000-"]
    assert is_right(tmp_path, large)


@pytest.mark.parametrize("size", [1000, 10**6], ids=["of another file", "too long"])
def test_a_stale_part_is_replaced(size: int, large: dict[str, bytes], mirror: Mirror, tmp_path: Path, part: Path) -> None:
    mirror.publish(large)
    part.write_bytes(os.urandom(size))
    download(digests(large), [mirror.url], tmp_path)
    assert [request.range for request in mirror.requests] == [f"bytes={size}-", None]
    assert is_right(tmp_path, large)


def test_a_complete_part_is_not_downloaded_again(large: dict[str, bytes], mirror: Mirror, tmp_path: Path, part: Path) -> None:
    mirror.publish(large)
    part.write_bytes(mirror.files[f"/{LARGE}.gz"])
    download(digests(large), [mirror.url], tmp_path)
    assert sum(request.sent for request in mirror.requests) == 0
    assert is_right(tmp_path, large)


def test_a_wrong_file_is_never_published(
    large: dict[str, bytes], tiny_set: Callable[[int], dict[str, bytes]], mirror: Mirror, tmp_path: Path
) -> None:
    other = tiny_set(2)
    mirror.publish(other)
    with pytest.raises(DownloadError) as error:
        download(digests(large), [mirror.url], tmp_path)
    for named in (f"{mirror.url}{LARGE}.gz", digests(large)[LARGE], digests(other)[LARGE]):
        assert named in str(error.value)
    assert names(tmp_path) == set()


def test_a_wrong_file_that_is_cut_again_and_again_is_given_up(
    large: dict[str, bytes], tiny_set: Callable[[int], dict[str, bytes]], mirror: Mirror, tmp_path: Path, part: Path
) -> None:
    mirror.publish(tiny_set(2))
    mirror.cuts = [50_000] * 100
    part.write_bytes(bytes(10))
    with pytest.raises(DownloadError, match="returned a file with"):
        download(digests(large), [mirror.url], tmp_path)
    assert names(tmp_path) == set()


def test_other_mirrors_are_tried(large: dict[str, bytes], start_mirror: Callable[[], Mirror], dead_mirror: str, tmp_path: Path) -> None:
    empty, portal, right = start_mirror(), start_mirror(), start_mirror()
    portal.files = {f"/{LARGE}.gz": b"<html>Please log in</html>"}
    right.publish(large)
    download(digests(large), [dead_mirror, empty.url, portal.url, right.url], tmp_path)
    assert is_right(tmp_path, large)


def test_every_mirror_that_failed_is_named(
    large: dict[str, bytes], start_mirror: Callable[[], Mirror], dead_mirror: str, tmp_path: Path
) -> None:
    empty, portal = start_mirror(), start_mirror()
    portal.files = {f"/{LARGE}.gz": b"<html>Please log in</html>"}
    with pytest.raises(DownloadError) as error:
        download(digests(large), [dead_mirror, empty.url, portal.url], tmp_path)
    message = str(error.value)
    assert f"{dead_mirror}{LARGE}.gz: [Errno {errno.ECONNREFUSED}]" in message
    assert f"{empty.url}{LARGE}.gz: returned status 404 Not Found" in message
    assert f"{portal.url}{LARGE}.gz: returned a file that is not IDX data" in message
    assert "\n" not in message
    assert names(tmp_path) == set()


def test_an_endless_answer_is_broken_off(large: dict[str, bytes], mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(large)
    mirror.endless = True
    with pytest.raises(DownloadError, match="returned more than"):
        download(digests(large), [mirror.url], tmp_path)
    assert mirror.requests[0].sent < 2 * MAX_BYTES
    assert names(tmp_path) == set()


def test_processes_that_download_at_once_take_turns(files: dict[str, bytes], mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(files)
    processes = [in_another_process(files, mirror, tmp_path) for _ in range(3)]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0]
    assert sorted(request.path for request in mirror.requests) == sorted(mirror.files)
    assert is_right(tmp_path, files)


def test_a_place_that_cannot_be_written_is_named(large: dict[str, bytes], mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(DownloadError, match=r"data.* cannot be written: Not a directory"):
        download(digests(large), [mirror.url], tmp_path / "data" / "mnist")
    assert mirror.requests == []


# Files of any kind, known by a function


def begins_right(file: Path) -> str | None:
    return None if file.read_bytes().startswith(b"right") else "a file that begins wrong"


def test_a_file_is_known_by_its_content(start_mirror: Callable[[], Mirror], tmp_path: Path) -> None:
    wrong, right = start_mirror(), start_mirror()
    wrong.files, right.files = {"/words.zip": b"wrong" + bytes(2000)}, {"/words.zip": b"right" + bytes(2000)}
    (tmp_path / "words.part.zip").write_bytes(b"wrong" + bytes(500))
    fetch([Wanted("words.zip", 10_000, begins_right)], [wrong.url, right.url], tmp_path)
    assert [request.range for request in wrong.requests] == ["bytes=505-", None]
    assert names(tmp_path) == {"words.zip"}
    assert (tmp_path / "words.zip").read_bytes() == right.files["/words.zip"]
    with pytest.raises(DownloadError, match=f"{wrong.url}words.zip: returned a file that begins wrong"):
        fetch([Wanted("words.zip", 10_000, begins_right)], [wrong.url], tmp_path / "other")


def test_a_file_has_a_size_of_its_own_that_it_does_not_exceed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files = {"/words.zip": b"right" + bytes(2000)}
    with pytest.raises(DownloadError, match="returned more than 2004 bytes"):
        fetch([Wanted("words.zip", 2004, begins_right)], [mirror.url], tmp_path)
    fetch([Wanted("words.zip", 2005, begins_right)], [mirror.url], tmp_path)
    assert names(tmp_path) == {"words.zip"}
