"""A process that adds to the journal, or changes it, is killed between any two of its system calls, and at any time."""

import inspect
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.speech_server.feedback.journal import QUARANTINE, Journal, Limits
from serving.speech_server.protos.dlserver_pb2 import TrainingRequest
from serving.speech_server.protos.speech_pb2 import ListSuggestionsRequest
from tests.serving.speech_server.running_speech import SpeechServer, running
from tests.waiting import PATIENCE, wait_for
from windtunnel.data.clips import WORDS
from windtunnel.data.wav import read_wav
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)


def clip(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(-9000, 9000, 3200).astype(np.int16)


def open_journal(place: Path) -> Journal:
    limits = Limits(per_peer_hour=10**6, disk_bytes=10**12, keep_days=0)
    return Journal(place / "journal.db", place / "uploads", limits)


# The programs below begin so; they do not import this file, for pytest takes longer to import than all they do.
HEAD = f"""
import ctypes, json, os, shutil, signal, sys, threading
from pathlib import Path
import numpy as np
from serving.speech_server.feedback.journal import Journal, Limits
from windtunnel.data.clips import WORDS

{inspect.getsource(clip)}
{inspect.getsource(open_journal)}
"""

# Loaded before libc: counts the calls that write or move something, SQLite's too, and kills the process instead of the n-th.
STEPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int last, done, report;

void arm(int n, int descriptor) { done = 0; last = n; report = descriptor; }

static void step(const char *name) {
    if (last && ++done == last) {
        syscall(SYS_write, report, name, strlen(name));
        kill(getpid(), SIGKILL);
    }
}

#define STEP(type, name, parameters, ...)                                             \
    type name parameters {                                                            \
        static type(*real) parameters;                                                \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                \
        step(#name " ");                                                              \
        return real(__VA_ARGS__);                                                     \
    }

STEP(int, chmod, (const char *path, mode_t mode), path, mode)
STEP(int, rename, (const char *from, const char *to), from, to)
STEP(int, unlink, (const char *path), path)
STEP(int, ftruncate64, (int descriptor, off64_t size), descriptor, size)
STEP(int, fsync, (int descriptor), descriptor)
STEP(int, fdatasync, (int descriptor), descriptor)
STEP(ssize_t, write, (int descriptor, const void *data, size_t size), descriptor, data, size)
STEP(ssize_t, pwrite64, (int descriptor, const void *data, size_t size, off64_t at), descriptor, data, size, at)
"""

# Does something to copies of a journal, and is killed at its first step, its second, …, until it comes to its end. Prints, for each
# copy, the step that it was killed at and what it had acknowledged. It forks, to import everything once.
PROGRAM = """
def add(journal, acknowledge):
    acknowledge(journal.add("right", clip(4), "peer").digest)

def claim(journal, acknowledge):
    acknowledge([each.id for each in journal.claim("second")])

def settle(journal, acknowledge):
    acknowledge(journal.settle("first", {1: "silence", 2: "too short"}))

def undo(journal, acknowledge):
    acknowledge([each.id for each in journal.undo([1, 3])])

def purge(journal, acknowledge):
    acknowledge(journal.purge())

what, place = sys.argv[1], Path(sys.argv[2])
arm = ctypes.CDLL(None).arm
status, point = 1, 0
while status:
    point += 1
    copy = place.with_name(f"{place.name}-{point}")
    shutil.copytree(place, copy)
    received, sent = os.pipe()
    step, reported = os.pipe()
    if (child := os.fork()) == 0:
        acknowledge = lambda value: os.write(sent, (json.dumps(value) + "\\n").encode())
        if what == "open":
            arm(point, reported)
        journal = open_journal(copy)
        if what != "open":
            arm(point, reported)
            globals()[what](journal, acknowledge)
        arm(0, 0)
        os._exit(0)
    os.close(sent), os.close(reported)
    status = os.waitpid(child, 0)[1]
    lines = open(received).read().splitlines()
    print(json.dumps({"copy": str(copy), "step": open(step).read(), "acknowledged": [json.loads(line) for line in lines]}))
"""

# Adds from four threads, and is killed; twelve times, each a little later, on the same journal. Prints what was acknowledged.
STREAM = """
place = Path(sys.argv[1])

def stream(journal, turn, thread):
    for number in range(turn * 10_000 + thread, (turn + 1) * 10_000, 4):
        os.write(1, f"{journal.add(WORDS[number % 8], clip(number), 'peer').digest}\\n".encode())  # in one piece; print() would write two

for turn in range(12):
    received, sent = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(sent, 1)
        journal = open_journal(place)
        for thread in range(4):
            threading.Thread(target=stream, args=(journal, turn, thread)).start()
        signal.pause()
    os.close(sent)
    with open(received) as lines:
        for _ in range(turn):
            print(lines.readline(), end="")
        os.kill(child, signal.SIGKILL)
        print(lines.read())
    os.waitpid(child, 0)
"""


def assert_whole(place: Path) -> Journal:
    """Open the journal; every WAV has its row, every row that needs one its WAV, where it belongs, and nothing else lies there."""
    journal = open_journal(place)
    uploads = place / "uploads"
    there = {file for folder in (uploads, uploads / QUARANTINE) for file in folder.iterdir()} - {uploads / QUARANTINE}
    needed = [each for each in journal.list() if each.state != "undone" and (each.state != "rejected" or each.file.exists())]
    assert there == {each.file for each in needed}
    assert len({(each.digest, each.word) for each in needed}) == len(needed)
    assert all(len(read_wav(each.file.read_bytes())) == 3200 for each in needed)
    return journal


@pytest.fixture
def place():
    """A folder, in memory where that can be: a kill leaves what the kernel has, on any disk, and a hundred journals are opened here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts, compiled."""
    library = tmp_path_factory.mktemp("steps") / "steps.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=STEPS.encode(), check=True)
    return library


@pytest.fixture
def killed(steps: Path, place: Path):
    """Does something to copies of the journal in `journal/`, each killed at another step; what came of the copies."""

    def kill(what: str) -> list[dict[str, Any]]:
        environment = os.environ | {"LD_PRELOAD": str(steps), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", HEAD + PROGRAM, what, str(place / "journal")]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        *cut_off, complete = [json.loads(line) for line in done.stdout.splitlines()]
        assert complete["step"] == ""
        assert all(each["step"] for each in cut_off)
        return cut_off

    return kill


@pytest.fixture
def journal(place: Path):
    """A journal of suggestions 1, 2 and 3, claimed by the run `first`."""
    made = open_journal(place / "journal")
    for number in range(3):
        made.add(WORDS[number], clip(number), "peer")
    made.claim("first")
    yield made
    made.close()


def test_adding_is_killed_at_every_step(journal: Journal, killed) -> None:
    journal.add("no", clip(3), "peer")
    journal.close()
    points = killed("add")
    assert len(points) >= 12
    assert {"write", "fsync", "chmod", "rename", "pwrite64", "fdatasync"} <= {each["step"].strip() for each in points}
    for each in points:
        assert each["acknowledged"] == []
        reopened = assert_whole(Path(each["copy"]))
        states = [suggestion.state for suggestion in reopened.list()]
        assert states[:4] == ["claimed", "claimed", "claimed", "received"]
        assert states[4:] in ([], ["received"])  # the one that was being added may be there
        again = [reopened.add(WORDS[number], clip(number), "peer").id for number in (3, 4)]
        assert again == [suggestion.id for suggestion in reopened.list(peer="peer", state="received")]
        reopened.close()


def test_settling_is_killed_at_every_step(journal: Journal, killed) -> None:
    journal.close()
    for each in killed("settle"):
        reopened = assert_whole(Path(each["copy"]))
        assert [suggestion.state for suggestion in reopened.list()] in (["claimed"] * 3, ["rejected", "rejected", "trained"])
        reopened.settle("first", {1: "silence", 2: "too short"})
        assert [suggestion.reason for suggestion in reopened.list()] == ["silence", "too short", None]
        assert [suggestion.file.parent.name for suggestion in reopened.list()] == [QUARANTINE, QUARANTINE, "uploads"]
        reopened.close()
        assert_whole(Path(each["copy"])).close()


def test_undoing_is_killed_at_every_step(journal: Journal, killed) -> None:
    journal.close()
    for each in killed("undo"):
        reopened = assert_whole(Path(each["copy"]))
        assert [suggestion.state for suggestion in reopened.list()] in (["claimed"] * 3, ["undone", "claimed", "undone"])
        reopened.undo([1, 3])
        assert [suggestion.state for suggestion in reopened.list()] == ["undone", "claimed", "undone"]
        reopened.close()
        assert_whole(Path(each["copy"])).close()


def test_purging_is_killed_at_every_step(journal: Journal, killed) -> None:
    journal.settle("first", {1: "silence", 3: "silence"})
    journal.close()
    for each in killed("purge"):
        reopened = assert_whole(Path(each["copy"]))
        reopened.purge()
        assert [suggestion.file.exists() for suggestion in reopened.list()] == [False, True, False]
        reopened.close()
        assert_whole(Path(each["copy"])).close()


def test_claiming_is_killed_at_every_step(journal: Journal, killed) -> None:
    journal.release("first")
    journal.close()
    for each in killed("claim"):
        reopened = assert_whole(Path(each["copy"]))
        assert len(reopened.list(state="claimed", run="second")) in (0, 3)
        assert [suggestion.id for suggestion in reopened.claim("second")] == [1, 2, 3]
        reopened.close()


def test_recovering_is_killed_at_every_step(journal: Journal, killed, place: Path) -> None:
    other = open_journal(place / "other")
    strays = [other.add(WORDS[number], clip(number), "peer").file for number in (0, 5)]  # the first is a suggestion that is there already
    other.close()
    for stray in strays:
        stray.rename(place / "journal" / "uploads" / stray.name)
    first, second, _ = journal.list()
    first.file.rename(first.file.parent / QUARANTINE / first.file.name)
    second.file.rename(place / "journal" / "uploads" / f".{second.file.name}.part")
    journal.close()
    for each in killed("open"):
        reopened = assert_whole(Path(each["copy"]))
        assert [suggestion.state for suggestion in reopened.list()] == ["claimed", "rejected", "claimed", "received"]
        reopened.close()


def test_a_stream_of_suggestions_is_killed_twelve_times(place: Path) -> None:
    """At any time: each start recovers from the kill before."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", HEAD + STREAM, str(place)], env=environment, stdout=subprocess.PIPE, check=True, text=True)
    acknowledged = done.stdout.split()
    assert len(acknowledged) >= sum(range(12))
    reopened = assert_whole(place)
    there = [each.digest for each in reopened.list()]
    assert len(set(there)) == len(there)
    assert set(acknowledged) <= set(there)
    assert len(there) <= len(acknowledged) + 12 * 4  # what each thread was about to acknowledge
    reopened.close()


def test_the_server_is_killed_while_clients_suggest(tmp_path: Path) -> None:
    """All that it acknowledged is there after its next start, and what clients send again is there once."""
    sent = {number: TrainingRequest(label=number % 8, audio_samples=clip(number).tolist()) for number in range(600)}
    acknowledged: list[int] = []

    def stream(server: SpeechServer, thread: int) -> None:
        for number in range(thread, 600, 4):
            try:
                server.old.Train(sent[number], timeout=PATIENCE)
            except grpc.RpcError:
                return
            acknowledged.append(number)

    with running(tmp_path) as server, ThreadPoolExecutor() as clients:
        for thread in range(4):
            clients.submit(stream, server, thread)
        wait_for(lambda: len(acknowledged) > 20, explain=server.log)
        server.process.kill()
        server.process.wait()
    with running(tmp_path) as server:
        there = server.new.ListSuggestions(ListSuggestionsRequest(state="received")).suggestions
        tried = range(max(acknowledged) + 1 + 4)  # and what each client had not been told of
        for number in tried:
            server.old.Train(sent[number])
        now = server.new.ListSuggestions(ListSuggestionsRequest()).suggestions
    assert 20 < len(acknowledged) <= len(there) <= len(acknowledged) + 4
    assert len([*(tmp_path / "suggestions").glob("*.wav")]) == len(now) == len(tried)
