import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from serving.speech_server.feedback.journal import QUARANTINE, Journal, Limits, QuotaError
from tests.serving.speech_server.feedback.journals import GENEROUS, clip, names
from windtunnel.data.clips import CLIP_SAMPLES, WORDS
from windtunnel.data.wav import read_wav
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

# Adds clips of a seed from a process of its own.
ADDER = """
import sys
from pathlib import Path
import numpy as np
from serving.speech_server.feedback.journal import Journal, Limits
from windtunnel.data.clips import WORDS
file, uploads, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
journal = Journal(file, uploads, Limits(10**6, 10**9, 30))
for number in range(25):
    clip = np.random.default_rng([seed, number]).integers(-9000, 9000, 1600).astype(np.int16)
    journal.add(WORDS[number % 8], clip, f"peer {seed}")
    journal.add(WORDS[number % 8], np.full(1600, 1 + number, np.int16), f"peer {seed}")  # all processes have these
"""


def age(tmp_path: Path, **ago: float) -> None:
    """Make every suggestion so much older."""
    with sqlite3.connect(tmp_path / "state" / "journal.db") as database:
        seconds = timedelta(**ago).total_seconds()
        database.execute("UPDATE suggestion SET received = received - ?, changed = changed - ?", (seconds, seconds))


def test_a_suggestion_is_stored_with_all_that_is_known_of_it(journal: Journal, open_journal: Callable[..., Journal]) -> None:
    before = datetime.now(UTC)
    made = journal.add("up", clip(), "10.0.0.7")
    assert (made.word, made.peer, made.state, made.reason, made.run) == ("up", "10.0.0.7", "received", None, None)
    assert before - timedelta(seconds=1) <= made.received <= datetime.now(UTC)  # it may be cut to whole seconds
    assert made.file.name.startswith("up-")
    assert read_wav(made.file.read_bytes()).tolist() == clip().tolist()
    assert journal.waiting() == [made] == open_journal().waiting()


@pytest.mark.parametrize("samples", [1, CLIP_SAMPLES])
def test_shortest_and_longest_clip(journal: Journal, samples: int) -> None:
    assert len(read_wav(journal.add("down", clip(1, samples), "peer").file.read_bytes())) == samples


def test_the_database_survives_a_power_cut(journal: Journal, tmp_path: Path) -> None:
    """As far as settings can say so: write-ahead log, flushed at each commit."""
    journal.add("down", clip(), "peer")
    assert (tmp_path / "state" / "journal.db-wal").stat().st_size > 0
    assert journal._db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_the_same_content_and_word_is_one_suggestion(journal: Journal) -> None:
    first = journal.add("no", clip(), "peer")
    filled = np.zeros(CLIP_SAMPLES, np.int16)
    filled[: len(clip())] = clip()
    assert journal.add("no", clip(), "another") == first
    assert journal.add("no", filled, "peer") == first
    other_word, other_content = journal.add("right", clip(), "peer"), journal.add("no", clip(9), "peer")
    assert journal.list() == [first, other_word, other_content]
    assert names(first.file.parent) == {each.file.name for each in journal.list()}


@pytest.mark.parametrize("state", ["claimed", "trained", "rejected"])
def test_the_same_is_one_suggestion_in_whatever_state_it_is(journal: Journal, state: str) -> None:
    first = journal.add("no", clip(), "peer")
    journal.claim("run")
    if state != "claimed":
        journal.settle("run", {first.id: "silence"} if state == "rejected" else {})
    again = journal.add("no", clip(), "peer")
    assert (again.id, again.state) == (first.id, state)
    assert journal.waiting() == []


def test_what_was_undone_can_be_suggested_again(journal: Journal) -> None:
    first = journal.add("no", clip(), "peer")
    journal.undo([first.id])
    second = journal.add("no", clip(), "peer")
    assert [each.state for each in journal.list()] == ["undone", "received"]
    assert names(first.file.parent) == {second.file.name}


def test_a_peer_has_so_many_an_hour(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    journal = open_journal(Limits(per_peer_hour=2, disk_bytes=10**9, keep_days=30))
    for number in range(2):
        journal.add("down", clip(number), "10.0.0.7")
    journal.undo([1])  # counts all the same
    with pytest.raises(QuotaError, match=r"10\.0\.0\.7 has made 2 suggestions within an hour, the maximum\. Send more later"):
        journal.add("down", clip(2), "10.0.0.7")
    assert journal.add("down", clip(1), "10.0.0.7").id == 2  # is there already
    journal.add("down", clip(2), "10.0.0.8")
    age(tmp_path, minutes=61)
    journal.add("down", clip(3), "10.0.0.7")
    assert len(names(tmp_path / "uploads")) == 3


def test_the_disk_space_is_limited(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    journal = open_journal(Limits(per_peer_hour=10**6, disk_bytes=2 * 3244, keep_days=30))
    journal.add("down", clip(0), "peer")
    journal.add("down", clip(1), "peer")
    with pytest.raises(
        QuotaError, match=r"no space for suggestions: used 6488 of 6488 bytes, this one has 3244\. Ask the operator for more space"
    ):
        journal.add("down", clip(2), "peer")
    assert sum(file.stat().st_size for file in (tmp_path / "uploads").glob("*.wav")) == 2 * 3244
    journal.undo([1])
    journal.add("down", clip(2), "peer")


def test_a_run_claims_all_and_a_second_time_the_same(journal: Journal) -> None:
    first, second = (journal.add("down", clip(number), "peer") for number in range(2))
    claimed = journal.claim("a")
    assert [(each.id, each.state, each.run) for each in claimed] == [(first.id, "claimed", "a"), (second.id, "claimed", "a")]
    third = journal.add("down", clip(2), "peer")
    assert journal.claim("a") == claimed == journal.list(run="a")
    assert [each.id for each in journal.claim("b")] == [third.id]
    assert journal.waiting() == []


def test_a_run_that_is_settled_claims_no_more(journal: Journal) -> None:
    journal.add("down", clip(0), "peer")
    journal.claim("a")
    journal.settle("a", {})
    journal.add("down", clip(1), "peer")
    assert journal.claim("a") == []
    assert len(journal.waiting()) == 1


def test_what_is_settled_is_trained_or_rejected(journal: Journal, tmp_path: Path) -> None:
    for number in range(3):
        journal.add("down", clip(number), "peer")
    journal.claim("a")
    late = journal.add("down", clip(3), "peer")
    for _ in range(2):
        journal.settle("a", {2: "silence"})
        assert [(each.state, each.reason) for each in journal.list(run="a")] == [
            ("trained", None),
            ("rejected", "silence"),
            ("trained", None),
        ]
    (rejected,) = journal.list(state="rejected")
    assert rejected.file.parent == tmp_path / "uploads" / QUARANTINE
    assert read_wav(rejected.file.read_bytes()).tolist() == clip(1).tolist()
    assert names(tmp_path / "uploads") == {each.file.name for each in journal.list() if each.state != "rejected"}
    assert journal.waiting() == [late]


def test_a_run_rejects_only_what_it_claimed(journal: Journal) -> None:
    journal.add("down", clip(), "peer")
    journal.claim("a")
    with pytest.raises(WindtunnelError, match=r"run b never claimed suggestions \[1, 7\]\. Reject only what `claim` returned"):
        journal.settle("b", {1: "silence", 7: "silence"})
    assert [each.state for each in journal.list()] == ["claimed"]


def test_what_a_failed_run_had_waits_again(journal: Journal) -> None:
    made = journal.add("down", clip(0), "peer")
    undone = journal.add("down", clip(1), "peer")
    journal.claim("a")
    journal.undo([undone.id])
    assert journal.release("a") == 1
    assert journal.waiting() == [made]
    assert [each.id for each in journal.claim("a")] == [made.id]  # the run is tried again
    assert journal.release("b") == 0


def test_suggestions_are_listed_by_peer_state_and_run(journal: Journal) -> None:
    mine, other = journal.add("down", clip(0), "me"), journal.add("down", clip(1), "other")
    assert journal.list() == [mine, other]
    assert journal.list(peer="me") == [mine]
    assert journal.list(peer="me", state="trained") == []
    assert journal.list(state="received", peer="other") == [other]
    assert journal.list(run="a") == []


def test_one_undoes_ones_own_once(journal: Journal) -> None:
    mine, other = journal.add("down", clip(0), "me"), journal.add("down", clip(1), "other")
    undone = journal.undo([mine.id, other.id, 99], peer="me")
    assert [(each.id, each.state) for each in undone] == [(mine.id, "undone")]
    assert not mine.file.exists()
    assert journal.undo([mine.id], peer="me") == []
    assert journal.waiting() == [other]


def test_what_is_undone_in_any_state_is_not_used_again(journal: Journal, tmp_path: Path) -> None:
    for number in range(3):
        journal.add("down", clip(number), "peer")
    journal.claim("a")
    journal.settle("a", {1: "silence"})
    for number, run in ((3, "b"), (4, None)):
        journal.add("down", clip(number), "peer")
        if run:
            journal.claim(run)
    assert [each.state for each in journal.list()] == ["rejected", "trained", "trained", "claimed", "received"]
    assert [each.state for each in journal.undo([1, 2, 4, 5])] == ["undone"] * 4
    journal.settle("b", {4: "silence"})
    journal.release("b")
    assert journal.claim("c") == []
    assert [each.id for each in journal.list(state="trained")] == [3]
    assert len(names(tmp_path / "uploads")) == 1
    assert names(tmp_path / "uploads" / QUARANTINE) == set()


def test_rejected_recordings_are_kept_for_so_many_days(journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(2):
        journal.add("down", clip(number), "peer")
    journal.claim("a")
    journal.settle("a", {1: "silence"})
    assert journal.purge() == 0
    age(tmp_path, days=29)
    assert journal.purge() == 0
    age(tmp_path, days=2)
    assert journal.purge() == 1
    assert journal.purge() == 0
    rejected, trained = journal.list()
    assert caplog.messages == [f"{rejected.file} is removed: its suggestion, 1, was rejected more than 30 days ago (KeepDays)"]
    assert (rejected.state, rejected.reason, rejected.file.exists(), trained.file.exists()) == ("rejected", "silence", False, True)
    assert [each.state for each in (journal.add("down", clip(0), "peer"), journal.add("down", clip(1), "peer"))] == ["received", "trained"]


def test_rejected_recordings_are_kept_for_ever_where_no_days_are_named(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    journal = open_journal(Limits(per_peer_hour=10**6, disk_bytes=10**9, keep_days=None))
    journal.add("down", clip(), "peer")
    journal.claim("a")
    journal.settle("a", {1: "silence"})
    age(tmp_path, days=10_000)
    assert journal.purge() == 0
    assert len(names(tmp_path / "uploads" / QUARANTINE)) == 1


def test_many_threads_and_processes_add_while_others_open_and_claim(open_journal: Callable[..., Journal], tmp_path: Path) -> None:
    """Neither recovery nor a claim disturbs what is being added; what all add is there once."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ADDER, str(tmp_path / "state" / "journal.db"), str(tmp_path / "uploads")]
    adders = [subprocess.Popen([*command, str(seed)], env=environment) for seed in range(2)]
    journal = open_journal()
    threads = [
        threading.Thread(target=lambda seed=seed: [journal.add("go", clip(seed + n), "t") for n in range(10)]) for seed in (100, 200)
    ]
    for thread in threads:
        thread.start()
    turns = 0
    while any(adder.poll() is None for adder in adders):
        open_journal().claim(f"run {turns}")
        turns += 1
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert [adder.returncode for adder in adders] == [0, 0]
    assert turns
    suggestions = open_journal().list()
    assert len(suggestions) == 2 * 25 + 25 + 2 * 10
    assert {each.peer for each in suggestions} == {"peer 0", "peer 1", "t"}
    assert len({(each.digest, each.word) for each in suggestions}) == len(suggestions)
    assert names(tmp_path / "uploads") == {each.file.name for each in suggestions}


def test_many_processes_create_a_journal_at_once(tmp_path: Path) -> None:
    children = []
    for _ in range(8):
        if (child := os.fork()) == 0:
            status = 1
            try:
                Journal(tmp_path / "journal.db", tmp_path / "uploads", GENEROUS).add("down", clip(), "peer")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(names(tmp_path / "uploads")) == 1


def test_names_hold_the_word(journal: Journal) -> None:
    for seed, word in enumerate((*WORDS, "drei", "turn-on", "turn it on", "don't", "ноль")):
        assert journal.add(word, clip(seed), "peer").file.name.startswith(f"{word}-")
