"""Recordings of eight tones, said by forty speakers, and runs that train on them: small, and quick to learn."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.tones import tone, tones_archive
from tests.waiting import RUN_PATIENCE
from train_server.speech_commands.conditions import write_conditions
from windtunnel.others import Others, locate_others
from windtunnel.recordings import RECORDINGS, Recordings
from windtunnel.run import Run
from windtunnel.settings import ROOT
from windtunnel.spec import SpeechSpec


@dataclass(frozen=True)
class Job:
    """A run whose conditions are there, and the program that trains it."""

    run: Run
    data: Path

    def train(self, out: Path) -> subprocess.CompletedProcess[str]:
        flags = {"--spec": self.run.spec_file, "--data": self.data, "--conditions": self.run.conditions, "--out": out}
        command = [sys.executable, "-m", "train_server.speech_commands.pytorch", *(str(word) for flag in flags.items() for word in flag)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_PATIENCE)


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Recordings:
    directory = tmp_path_factory.mktemp("tones")
    (directory / "mini_speech_commands.zip").write_bytes(tones_archive())
    return RECORDINGS["mini_speech_commands"].read("mini_speech_commands", directory)


@pytest.fixture(scope="session")
def others(tones) -> Others:
    return locate_others(tones.words, print)


@pytest.fixture(scope="session")
def make_job(tones, others, tmp_path_factory):
    def make(champion: Path | None = None, **fields) -> Job:
        run = Run(tmp_path_factory.mktemp("run"))
        samples = len(tones.split("train")[1]) + 1
        spec = SpeechSpec(dataset=tones.name, samples=samples, batch_size=16, others=others.fingerprints, **fields)
        if champion:
            run.champion.symlink_to(champion)
        write_conditions(run, spec, tones, {"clips": tone(3, 1000)[None], "labels": np.array([3], np.uint8)})
        return Job(run, tones.directory)

    return make


@pytest.fixture(scope="session")
def version(make_job) -> Path:
    """A version that was trained from new weights."""
    job = make_job(epochs=8)
    out = job.run.version("pytorch")
    done = job.train(out)
    assert done.returncode == 0, done.stderr
    return out
