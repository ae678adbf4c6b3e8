"""Journals of servers that knew eight words: a suggestion had the number of its word."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.speech_server.feedback.journal import QUARANTINE, Journal, Limits
from windtunnel.data.clips import WORDS
from windtunnel.settings import ROOT


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, 1600).astype(np.int16)


@pytest.fixture
def open_journal(tmp_path: Path) -> Callable[[], Journal]:
    return lambda: Journal(tmp_path / "state" / "journal.db", tmp_path / "uploads", Limits(10**6, 10**9, 30))


NUMBERED = """
CREATE TABLE suggestion (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 1,
    digest TEXT NOT NULL, label INTEGER NOT NULL, peer TEXT NOT NULL, received REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'claimed', 'trained', 'rejected', 'undone')), changed REAL NOT NULL,
    reason TEXT, run TEXT
);
CREATE UNIQUE INDEX content ON suggestion (digest, label) WHERE kept;
CREATE INDEX space ON suggestion (bytes) WHERE kept;
CREATE INDEX senders ON suggestion (peer, received);
CREATE INDEX states ON suggestion (state);
"""


def as_it_was(tmp_path: Path) -> None:
    """Make the journal one with numbers, as a server before this one has left it."""
    file = tmp_path / "state" / "journal.db"
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT id, file, bytes, kept, digest, word, peer, received, state, changed, reason, run FROM suggestion")
        kept = [(*row[:5], WORDS.index(row[5]), *row[6:]) for row in rows.fetchall()]
        database.execute("DROP TABLE suggestion")
        database.executescript(NUMBERED)
        database.executemany(f"INSERT INTO suggestion VALUES ({', '.join('?' * 12)})", kept)
        database.execute("UPDATE sqlite_sequence SET seq = 100")
        database.execute("PRAGMA user_version = 0")
    database.close()


def test_a_journal_of_eight_numbers_is_taken_over_whole(open_journal: Callable[[], Journal], tmp_path: Path) -> None:
    before = open_journal()
    for number, word in enumerate(WORDS * 2):
        before.add(word, clip(number), "peer")
    before.claim("a")
    before.settle("a", {1: "silence", 2: "too short"})
    before.undo([3])
    before.add("up", clip(20), "other")
    known = before.list()
    before.close()
    as_it_was(tmp_path)

    after = open_journal()
    assert after.list() == known == open_journal().list()
    assert after.add("up", clip(20), "other") == known[-1]  # which is there already
    assert after.add("zero", clip(20), "other").id == 101
    assert {file.name for file in (tmp_path / "uploads" / QUARANTINE).iterdir()} == {each.file.name for each in known[:2]}


def test_a_takeover_that_is_killed_is_made_by_the_next_opening(open_journal: Callable[[], Journal], tmp_path: Path) -> None:
    before = open_journal()
    made = [before.add(word, clip(number), "peer") for number, word in enumerate(WORDS)]
    before.close()
    as_it_was(tmp_path)
    half_way = """
import os, sys
from pathlib import Path
from serving.speech_server.feedback import journal
migrate, kept = journal.MIGRATIONS[0], iter(range(int(sys.argv[3])))
def killed(execute):
    migrate(lambda statement: os._exit(9) if next(kept, None) is None else execute(statement))
journal.MIGRATIONS = (killed,)
journal.Journal(Path(sys.argv[1]), Path(sys.argv[2]), journal.Limits(10**6, 10**9, 30))
"""
    for statements in range(10):
        command = [sys.executable, "-c", half_way, str(tmp_path / "state" / "journal.db"), str(tmp_path / "uploads"), str(statements)]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 9, done.stderr
    assert open_journal().list() == made
