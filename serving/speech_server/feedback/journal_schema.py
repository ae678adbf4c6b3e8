"""The schema of the journal's database, as migrations that lead to it from any earlier one."""

import sqlite3
from collections.abc import Callable

from windtunnel.vocabulary import WORDS

Execute = Callable[[str], list[sqlite3.Row]]

# `kept`: whether there is a WAV. A suggestion without one (undone, purged or lost) can be made again.
_TABLE = (
    """
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
    )
    """,
    "CREATE UNIQUE INDEX IF NOT EXISTS content ON suggestion (digest, word) WHERE kept",
    "CREATE INDEX IF NOT EXISTS space ON suggestion (bytes) WHERE kept",
    "CREATE INDEX IF NOT EXISTS senders ON suggestion (peer, received)",
    "CREATE INDEX IF NOT EXISTS states ON suggestion (state)",
)

_CASES = " ".join(f"WHEN {label} THEN '{word}'" for label, word in enumerate(WORDS))
_WORDS_FOR_LABELS = (
    "ALTER TABLE suggestion ADD COLUMN word TEXT NOT NULL DEFAULT ''",
    f"UPDATE suggestion SET word = CASE label {_CASES} ELSE label END",
    "DROP INDEX content",
    "ALTER TABLE suggestion DROP COLUMN label",
)


def _to_1(execute: Execute) -> None:
    """Create the table, or migrate one from before versions were recorded: the first of those had labels instead of words."""
    labelled = any(row["name"] == "label" for row in execute("PRAGMA table_info(suggestion)"))
    for statement in (*_WORDS_FOR_LABELS, *_TABLE) if labelled else _TABLE:
        execute(statement)


MIGRATIONS = (_to_1,)
"""Each migration leads to the next schema version, the first to version 1. Never change one that was released: append another."""
