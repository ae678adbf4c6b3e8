"""The journal of suggestions: labelled clips that clients send for training, each a WAV file and a row of an SQLite database.

States: received → claimed by a run → trained or rejected; from any of them to undone, by the sender or by the operator.

Nothing is lost when a process is killed, because a process changes files only while it holds the database's write lock, which ends with the
process. A new WAV is durable before its row is committed, and the row is committed before `add` returns. All other operations change the
rows first, and then the files. So a process that opens the journal and holds the lock knows that no other process is in the middle of an
operation, and completes what a killed process has left behind:

- a partly written WAV is removed;
- a WAV of the journal without a row gets one: it is a suggestion that was being added, or the database was lost. It is removed only if the
  same suggestion exists already;
- a WAV that is not where its row says is moved there, or removed;
- a row whose WAV is missing is rejected, and is received again if the WAV is back when the journal is opened.

Files whose names the journal would not give are ignored.
"""

import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from serving.speech_server.feedback.journal_schema import MIGRATIONS
from serving.speech_server.ini_file import Config
from windtunnel.data.wav import read_wav, wav_bytes
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.vocabulary import WORD

_log = logging.getLogger(__name__)

LOCK_SECONDS = 30.0
RETRY_SECONDS = 0.001
QUARANTINE = "quarantine"
LOST = "its WAV is gone"

_NAME = re.compile(rf"{WORD}-[0-9a-f]{{32}}\.wav")
_PART = re.compile(rf"\.{_NAME.pattern}\..*")

_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_IOERR: "free space on its disk, or check the disk",
    sqlite3.SQLITE_READONLY: "make it and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "make it and its folder writable",
    sqlite3.SQLITE_BUSY: "wait for the process that uses it, or end that",
}
"""The next step after an error of SQLite, by its code. All other errors are caused by the file itself."""


class JournalError(WindtunnelError):
    """The journal cannot be read or written."""


class QuotaError(WindtunnelError):
    """A sender has made too many suggestions, or the disk space for suggestions is used up."""


@dataclass(frozen=True)
class Limits:
    """The quotas: suggestions per hour from one peer, bytes of all WAV files, days until the WAV of a rejected suggestion is removed.

    If `keep_days` is None, none is ever removed.
    """

    per_peer_hour: int
    disk_bytes: int
    keep_days: int | None


@dataclass(frozen=True)
class Suggestion:
    """A labelled clip. `file` is its WAV, or was before it was undone or purged; `peer` is empty if the sender is unknown."""

    id: int
    digest: str
    word: str
    peer: str
    state: str
    reason: str | None
    run: str | None
    received: datetime
    file: Path


Suggestions = list[Suggestion]
_Rows = list[sqlite3.Row]


class Journal:
    """Suggestions in the order of their arrival. Safe for any number of threads, and of processes on one machine.

    Every method raises:
        JournalError: database or files cannot be read or written; the message names them and the reason. Try again later: all methods are
            idempotent.
    """

    def __init__(self, file: Path, uploads: Path, limits: Limits) -> None:
        """Open or create the journal, and complete what a killed process has left behind.

        Args:
            file: the database.
            uploads: the folder of the WAVs; those of rejected suggestions are in its subfolder `quarantine/`.
            limits: the quotas.

        Raises:
            JournalError: as from every method, and if the database has the schema of a newer release.
        """
        self._file, self._uploads, self._limits = file, uploads, limits
        self._lock = threading.RLock()
        with self._naming():
            for folder in (file.parent, uploads, uploads / QUARANTINE):
                if not folder.is_dir():
                    folder.mkdir(parents=True, exist_ok=True)
                    _sync(folder.parent)
            self._db = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._rows(f"PRAGMA {pragma}")
        self._recover()

    def add(self, word: str, pcm: np.ndarray, peer: str) -> Suggestion:
        """Store a suggestion durably. If one with the same word and content exists, it is returned instead, in its state.

        The content is the samples without trailing zeros, so padding a clip to a second with silence does not change it.

        Args:
            word: the spoken word, one of `windtunnel.vocabulary`.
            pcm: int16 (N), with N from 1 to CLIP_SAMPLES.
            peer: the sender; empty if unknown.

        Raises:
            QuotaError: the peer's quota for this hour, or the disk space, is used up.
        """
        digest, content, name = content_digest(pcm), wav_bytes(pcm), f"{word}-{uuid.uuid4().hex}.wav"
        try:
            with self._writing():
                known = self._rows("SELECT * FROM suggestion WHERE digest = ? AND word = ? AND kept", digest, word)
                if not known:
                    self._check_quotas(peer, len(content))
                    write_atomically(self._uploads / name, content)
                    _sync(self._uploads)
                    known = self._insert(name, len(content), digest, word, peer, time.time(), "received")
                elif not known[0]["peer"]:  # the same sender repeats a request whose success was not reported
                    known = self._change("peer = ?", "id = ?", peer, known[0]["id"])
                return self._suggestion(known[0])
        except JournalError:
            (self._uploads / name).unlink(missing_ok=True)
            raise

    def waiting(self) -> Suggestions:
        """Return the suggestions that no run has claimed."""
        return self.list(state="received")

    def claim(self, run: str) -> Suggestions:
        """Claim all suggestions that wait for a run. A run that has claimed before only gets what it still has claimed."""
        with self._writing():
            if not self._rows("SELECT 1 FROM suggestion WHERE run = ? AND state != 'undone' LIMIT 1", run):
                self._change("state = 'claimed', run = ?", "state = 'received'", run)
            return self.list(state="claimed", run=run)

    def settle(self, run: str, rejected: Mapping[int, str]) -> None:
        """Mark what a run has claimed as trained, or as rejected. Suggestions undone in the meantime stay undone. Idempotent.

        Args:
            run: the run.
            rejected: the reasons, by id.

        Raises:
            WindtunnelError: the run has never claimed one of the rejected suggestions.
        """
        with self._writing():
            own = {row["id"] for row in self._rows("SELECT id FROM suggestion WHERE run = ?", run)}
            if foreign := sorted(set(rejected) - own):
                raise WindtunnelError(f"run {run} never claimed suggestions {foreign}. Reject only what `claim` returned")
            files: _Rows = []
            for number, reason in rejected.items():
                which = "id = ? AND run = ? AND state = 'claimed'"
                files += self._change("state = 'rejected', reason = ?", which, reason, number, run)
            self._change("state = 'trained'", "run = ? AND state = 'claimed'", run)
        self._place(files)

    def release(self, run: str) -> int:
        """Return what a run has claimed to the suggestions that wait, for example after it failed; returns how many."""
        with self._writing():
            return len(self._change("state = 'received', run = NULL", "run = ? AND state = 'claimed'", run))

    def list(self, peer: str | None = None, state: str | None = None, run: str | None = None) -> Suggestions:
        """Return all suggestions, or those of a peer, in a state, or of a run."""
        wanted = {name: value for name, value in (("peer", peer), ("state", state), ("run", run)) if value is not None}
        where = " AND ".join(f"{name} = ?" for name in wanted) or "1"
        with self._lock, self._naming():
            return [self._suggestion(row) for row in self._rows(f"SELECT * FROM suggestion WHERE {where} ORDER BY id", *wanted.values())]

    def undo(self, ids: Iterable[int], peer: str | None = None) -> Suggestions:
        """Undo suggestions permanently: no run uses them any more, and their WAVs are removed.

        Args:
            ids: the suggestions.
            peer: if given, only suggestions of this peer are undone.

        Returns:
            Those that were undone; not those that were undone before, do not exist, or are another peer's.
        """
        # One statement, so that nobody else can write in between, however many there are.
        which = "id IN (SELECT value FROM json_each(?)) AND state != 'undone'" + (" AND peer = ?" if peer is not None else "")
        with self._writing():
            undone = self._change("state = 'undone', kept = 0", which, json.dumps(list(set(ids))), *([peer] if peer is not None else []))
        self._place(undone)
        return [self._suggestion(row) for row in undone]

    def purge(self) -> int:
        """Remove the WAVs of suggestions rejected at least `keep_days` ago; returns how many. Trained suggestions are kept."""
        days = self._limits.keep_days
        if days is None:
            return 0
        with self._writing():
            purged = self._change("kept = 0", "kept AND state = 'rejected' AND changed < ?", time.time() - days * 86_400)
        for row in purged:
            _log.info("%s is removed: its suggestion, %d, was rejected more than %d days ago (KeepDays)", self._path(row), row["id"], days)
        self._place(purged)
        return len(purged)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "give StateFile another name")
            raise JournalError(f"the journal of suggestions {self._file} cannot be used ({error}). To continue, {remedy}") from error
        except OSError as error:
            where = error.filename or self._uploads
            raise JournalError(f"{where} cannot be used for suggestions ({error.strerror}). Free space, or make it writable") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the write lock while the body runs, and commit."""
        with self._lock, self._naming():
            self._rows("BEGIN IMMEDIATE")
            try:
                yield
                self._rows("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._rows("ROLLBACK")
                raise

    def _rows(self, sql: str, *values: object) -> _Rows:
        """Execute a statement and return its rows; waits while other processes hold a lock.

        SQLite itself would check the lock only ten times a second, and rarely find it free during a stream of suggestions.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)

    def _change(self, what: str, which: str, *values: object) -> _Rows:
        """Change rows and return them, except those whose content would then be stored twice."""
        return self._rows(f"UPDATE OR IGNORE suggestion SET changed = {time.time()}, {what} WHERE {which} RETURNING *", *values)

    def _insert(self, name: str, size: int, digest: str, word: str, peer: str, received: float, state: str) -> _Rows:
        """Insert a row and return it; nothing if the same content is stored already."""
        sql = (
            "INSERT INTO suggestion (file, bytes, digest, word, peer, received, state, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING *"
        )
        return self._rows(sql, name, size, digest, word, peer, received, state, time.time())

    def _check_quotas(self, peer: str, size: int) -> None:
        limits = self._limits
        sent = self._rows("SELECT COUNT(*) FROM suggestion WHERE peer = ? AND received > ?", peer, time.time() - 3600)[0][0]
        if peer and sent >= limits.per_peer_hour:
            raise QuotaError(f"{peer} has made {sent} suggestions within an hour, the maximum. Send more later")
        used = self._rows("SELECT COALESCE(SUM(bytes), 0) FROM suggestion WHERE kept")[0][0]
        if used + size > limits.disk_bytes:
            raise QuotaError(
                f"no space for suggestions: used {used} of {limits.disk_bytes} bytes, this one has {size}. Ask the operator for more space"
            )

    def _suggestion(self, row: sqlite3.Row) -> Suggestion:
        received = datetime.fromtimestamp(row["received"], UTC)
        fields = {name: row[name] for name in ("id", "digest", "word", "peer", "state", "reason", "run")}
        return Suggestion(**fields, received=received, file=self._path(row))

    def _path(self, row: sqlite3.Row) -> Path:
        """Return where the WAV of a suggestion belongs, or belonged."""
        return (self._uploads / QUARANTINE if row["state"] == "rejected" else self._uploads) / row["file"]

    def _place(self, rows: Iterable[sqlite3.Row]) -> None:
        """Move or remove the WAVs as their rows, re-read now, say."""
        with self._writing():
            for old in rows:
                row = self._rows("SELECT * FROM suggestion WHERE id = ?", old["id"])[0]
                for found in (self._uploads / row["file"], self._uploads / QUARANTINE / row["file"]):
                    if not row["kept"]:
                        found.unlink(missing_ok=True)
                    elif found != self._path(row) and found.exists():
                        found.replace(self._path(row))

    def _recover(self) -> None:
        with self._writing():
            self._migrate()
            for part in self._uploads.iterdir():
                if _PART.fullmatch(part.name):
                    part.unlink()
                    _log.info("%s is removed: it was written only in part", part)
            folders = (self._uploads, self._uploads / QUARANTINE)
            found = {file.name: file for folder in folders for file in folder.iterdir() if _NAME.fullmatch(file.name)}
            rows = {row["file"]: row for row in self._rows("SELECT * FROM suggestion")}
            for name, row in rows.items():
                if row["kept"] and name not in found:
                    _log.warning("suggestion %d is lost: %s is gone", row["id"], self._path(row))
                    self._change("kept = 0", "id = ?", row["id"])
                    self._change("state = 'rejected', reason = ?", "id = ? AND state != 'rejected'", LOST, row["id"])
            for name, file in found.items():
                if name not in rows:
                    self._adopt(file)
                elif not rows[name]["kept"] and rows[name]["reason"] == LOST:
                    self._change("kept = 1, state = 'received', reason = NULL, run = NULL", "id = ?", rows[name]["id"])
        self._place(rows[name] for name in found if name in rows)

    def _migrate(self) -> None:
        """Migrate the database to the newest schema, with its `user_version` in the same transaction."""
        found = self._rows("PRAGMA user_version")[0][0]
        if found > len(MIGRATIONS):
            raise JournalError(
                f"the journal of suggestions {self._file} was written by a newer release: found schema version {found}, expected"
                f" {len(MIGRATIONS)} or lower. Run that release, or give StateFile another name"
            )
        for version, migrate in enumerate(MIGRATIONS[found:], found + 1):
            migrate(self._rows)
            self._rows(f"PRAGMA user_version = {version}")

    def _adopt(self, file: Path) -> None:
        """Add a row for a WAV without one, or remove the WAV if its content has one."""
        try:
            pcm = read_wav(file.read_bytes())
        except WindtunnelError as error:
            _log.warning("%s is ignored: %s", file, error)
            return
        about, word = file.stat(), file.name.rpartition("-")[0]
        state = "rejected" if file.parent.name == QUARANTINE else "received"
        if self._insert(file.name, about.st_size, content_digest(pcm), word, "", about.st_mtime, state):
            _log.warning("%s had no row in %s: added as %s", file, self._file, state)
        else:
            file.unlink()
            _log.info("%s is removed: the same clip is stored with the same word", file)


def open_journal(config: Config) -> Journal:
    """Open the journal of the server with this configuration."""
    return Journal(config.journal, config.suggestions, Limits(config.suggestions_per_hour, config.upload_bytes, config.keep_days))


def content_digest(pcm: np.ndarray) -> str:
    """Return the digest of a clip's content, int16 (N): the SHA-256 of its samples without trailing zeros."""
    return hashlib.sha256(np.trim_zeros(pcm, "b").astype("<i2").tobytes()).hexdigest()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
