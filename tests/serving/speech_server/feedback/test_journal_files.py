"""What a journal makes of the files that it finds, and of a disk that it cannot use."""

import logging
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.speech_server.feedback.journal import Journal, JournalError
from tests.serving.speech_server.feedback.journals import clip, names
from windtunnel.data.clips import WORDS


def test_a_lost_database_is_made_again_from_the_recordings(
    journal: Journal, open_journal: Callable[..., Journal], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = [journal.add(WORDS[number], clip(number), "peer") for number in range(3)]
    journal.claim("a")
    journal.settle("a", {1: "silence"})
    journal.close()
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    after = {each.digest: each for each in open_journal().list()}
    assert "had no row" in caplog.text
    assert [after[each.digest].word for each in before] == ["down", "go", "left"]
    assert [after[each.digest].state for each in before] == ["rejected", "received", "received"]


def test_a_recording_that_was_taken_away_is_rejected_and_comes_back(
    journal: Journal, open_journal: Callable[..., Journal], tmp_path: Path
) -> None:
    made = journal.add("down", clip(), "peer")
    journal.claim("a")
    (tmp_path / "uploads").rename(tmp_path / "elsewhere")
    (lost,) = open_journal().list()
    assert (lost.state, lost.reason) == ("rejected", "its WAV is gone")
    for file in (tmp_path / "elsewhere").glob("*.wav"):
        file.rename(tmp_path / "uploads" / file.name)
    assert open_journal().list() == [made]


def test_what_an_opening_removes_is_in_the_log(
    journal: Journal, open_journal: Callable[..., Journal], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = journal.add("down", clip(), "peer")
    twin, part = (made.file.with_name(f"down-{digit * 32}.wav") for digit in "01")
    twin.write_bytes(made.file.read_bytes())
    part = part.with_name(f".{part.name}.x1")
    part.write_bytes(b"RIFF")
    assert open_journal().list() == [made]
    assert caplog.messages == [
        f"{part} is removed: it was written only in part",
        f"{twin} is removed: the same clip is stored with the same word",
    ]
    assert names(tmp_path / "uploads") == {made.file.name}


def test_a_recording_that_was_taken_away_and_sent_again_is_there_once(
    journal: Journal, open_journal: Callable[..., Journal], tmp_path: Path
) -> None:
    made = journal.add("down", clip(), "peer")
    made.file.rename(tmp_path / made.file.name)
    again = open_journal().add("down", clip(), "peer")
    (tmp_path / made.file.name).rename(made.file)
    assert open_journal().waiting() == [again]
    assert names(tmp_path / "uploads") == {again.file.name}


def test_files_of_others_are_left_alone(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    (uploads / "up").mkdir(parents=True)
    damaged = f"up-{'a' * 32}.wav"
    for name in ("up.wav", "README", ".up.wav.part", damaged):
        (uploads / name).write_bytes(b"somebody's")
    assert open_journal().list() == []
    assert names(uploads) == {"up.wav", "README", ".up.wav.part", damaged}


def test_a_full_disk_is_said_and_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(JournalError, match=r"uploads.* cannot be used for suggestions \(File too large\)\. Free space"):
            journal.add("down", clip(), "peer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path / "uploads") == set()
    assert journal.list() == []
    journal.add("down", clip(), "peer")


def test_a_database_that_cannot_be_written_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    """Its disk is full, and not that of the recordings."""
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(500):
            journal.add("down", clip(number, 10), "peer" * 200)

    with pytest.raises(
        JournalError, match=r"journal\.db cannot be used \(database or disk is full\)\. To continue, free space on its disk$"
    ):
        fill()
    assert 1 < len(journal.list()) < 50
    assert names(tmp_path / "uploads") == {each.file.name for each in journal.list()}


def test_a_state_file_of_another_kind_is_said_and_left_alone(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    state = tmp_path / "state" / "journal.db"
    state.parent.mkdir()
    state.write_bytes(b"\x80\x04 what another server kept here" * 10)
    with pytest.raises(JournalError, match=r"journal\.db cannot be used \(file is not a database\)\. .*give StateFile another name"):
        open_journal()
    assert state.read_bytes().startswith(b"\x80\x04")


def test_a_folder_that_cannot_be_made_is_said(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("a file")
    with pytest.raises(JournalError, match=r"uploads.* cannot be used for suggestions"):
        open_journal()
