"""The version of the journal's database: what an older one becomes, and that a newer one is refused."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.speech_server.feedback.journal import QUARANTINE, Journal, JournalError, Suggestion, content_digest
from serving.speech_server.feedback.journal_schema import MIGRATIONS
from tests.serving.speech_server.feedback.journals import clip, names
from windtunnel.data.wav import wav_bytes

# As servers made it before they recorded a version.
UNVERSIONED = """
CREATE TABLE IF NOT EXISTS suggestion (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    kept INTEGER NOT NULL DEFAULT 1,
    digest TEXT NOT NULL,
    word TEXT NOT NULL,
    peer TEXT NOT NULL,
    received REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'claimed', 'trained', 'rejected', 'undone')),
    changed REAL NOT NULL,
    reason TEXT,
    run TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS content ON suggestion (digest, word) WHERE kept;
CREATE INDEX IF NOT EXISTS space ON suggestion (bytes) WHERE kept;
CREATE INDEX IF NOT EXISTS senders ON suggestion (peer, received);
CREATE INDEX IF NOT EXISTS states ON suggestion (state);
"""
STATES = {
    "received": (None, None),
    "claimed": (None, "run 2"),
    "trained": (None, "run 1"),
    "rejected": ("silence", "run 1"),
    "undone": (None, None),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(exist_ok=True)
    return tmp_path / "state" / "journal.db"


def execute(file: Path, statement: str) -> list[tuple]:
    with sqlite3.connect(file) as database:
        rows = database.execute(statement).fetchall()
    database.close()
    return rows


def unversioned(file: Path, uploads: Path) -> list[Suggestion]:
    """Make a journal without a version, with a suggestion in each state."""
    (uploads / QUARANTINE).mkdir(parents=True)
    made = []
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(UNVERSIONED)
        for number, (state, (reason, run)) in enumerate(STATES.items(), 1):
            content, kept = wav_bytes(clip(number)), state != "undone"
            wav = (uploads / QUARANTINE if state == "rejected" else uploads) / f"seven-{number:032x}.wav"
            if kept:
                wav.write_bytes(content)
            digest, received = content_digest(clip(number)), 1.7e9 + number
            row = (number, wav.name, len(content), kept, digest, "seven", "phone", received, state, received, reason, run)
            database.execute(f"INSERT INTO suggestion VALUES ({', '.join('?' * len(row))})", row)
            made.append(Suggestion(number, digest, "seven", "phone", state, reason, run, datetime.fromtimestamp(received, UTC), wav))
        database.execute("UPDATE sqlite_sequence SET seq = 100")
    database.close()
    assert execute(file, "PRAGMA user_version") == [(0,)]
    return made


def test_a_database_without_a_version_is_taken_over_whole(open_journal: Callable[..., Journal], file: Path, tmp_path: Path) -> None:
    made = unversioned(file, tmp_path / "uploads")
    rows, wavs = execute(file, "SELECT * FROM suggestion"), names(tmp_path / "uploads")
    for _ in range(2):  # the second opening finds the version
        assert open_journal().list() == made
        assert execute(file, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert (execute(file, "SELECT * FROM suggestion"), names(tmp_path / "uploads")) == (rows, wavs)
    assert open_journal().add("seven", clip(1), "laptop") == made[0]  # which is there already
    assert open_journal().add("seven", clip(9), "laptop").id == 101


def test_a_new_database_has_the_newest_version(journal: Journal, file: Path, tmp_path: Path) -> None:
    unversioned(tmp_path / "older.db", tmp_path / "older")
    schema = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL ORDER BY name"
    assert execute(file, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert execute(file, schema) == execute(tmp_path / "older.db", schema)
    assert execute(file, "PRAGMA table_info(suggestion)") == execute(tmp_path / "older.db", "PRAGMA table_info(suggestion)")


def test_each_migration_is_done_once_and_in_order(
    open_journal: Callable[..., Journal], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = unversioned(file, tmp_path / "uploads")
    later = ("ALTER TABLE suggestion ADD COLUMN first TEXT", "ALTER TABLE suggestion RENAME first TO second")
    migrations = (*MIGRATIONS, *(lambda execute, statement=statement: execute(statement) for statement in later))
    monkeypatch.setattr("serving.speech_server.feedback.journal.MIGRATIONS", migrations[:-1])
    open_journal().close()
    assert execute(file, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
    monkeypatch.setattr("serving.speech_server.feedback.journal.MIGRATIONS", migrations)
    assert open_journal().list() == made
    assert execute(file, "PRAGMA user_version") == [(len(MIGRATIONS) + 2,)]
    assert execute(file, "PRAGMA table_info(suggestion)")[-1][1] == "second"


def test_a_database_of_a_newer_release_is_refused_and_left_alone(
    journal: Journal, open_journal: Callable[..., Journal], file: Path, tmp_path: Path
) -> None:
    journal.add("seven", clip(), "phone")
    journal.close()
    execute(file, "PRAGMA user_version = 99")
    part = tmp_path / "uploads" / f".seven-{'0' * 32}.wav.x1"
    part.write_bytes(b"RIFF")
    before = file.read_bytes()
    with pytest.raises(JournalError) as refused:
        open_journal()
    assert str(refused.value) == (
        f"the journal of suggestions {file} was written by a newer release: found schema version 99, expected {len(MIGRATIONS)} or lower."
        " Run that release, or give StateFile another name"
    )
    assert file.read_bytes() == before
    assert part.exists()
