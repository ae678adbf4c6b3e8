"""The table of the journal, and how one of a server before this one becomes it. Whoever opens a journal does so in one transaction."""

from collections.abc import Collection

from windtunnel.vocabulary import WORDS

# `kept`: whether there is a WAV. A suggestion that has none, being undone, purged or lost, can be made again.
SCHEMA = """
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

# Until there were other words than the eight, a suggestion had the number of its word.
FROM_NUMBERS = f"""
ALTER TABLE suggestion ADD COLUMN word TEXT NOT NULL DEFAULT '';
UPDATE suggestion SET word = CASE label {" ".join(f"WHEN {number} THEN '{word}'" for number, word in enumerate(WORDS))} ELSE label END;
DROP INDEX content;
ALTER TABLE suggestion DROP COLUMN label;
"""


def statements(columns: Collection[str]) -> list[str]:
    """What makes the table from one with these columns; from none, where there is no table yet."""
    return [each for each in ((FROM_NUMBERS if "label" in columns else "") + SCHEMA).split(";") if each.strip()]
