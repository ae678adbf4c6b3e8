"""Recordings of eight tones, said by forty speakers, and runs that train on them: small, and quick to learn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.tones import tone, tones_archive
from train_server.speech_commands.conditions import write_conditions
from train_server.speech_commands.model import PYTORCH, SpeechSpec
from train_server.train import run_trainer
from windtunnel.data.other_words import Others, locate_others
from windtunnel.data.recordings import RECORDINGS, Recordings
from windtunnel.run import Run


@dataclass(frozen=True)
class Job:
    """A run whose conditions are there."""

    run: Run
    data: Recordings

    def train(self, out: Path) -> None:
        """Train a version, as the host does."""
        run_trainer(PYTORCH, self.run.spec_file, self.data, self.run.conditions, out)


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
        return Job(run, tones)

    return make


@pytest.fixture(scope="session")
def version(make_job) -> Path:
    """A version that was trained from new weights."""
    job = make_job(epochs=8)
    out = job.run.version("pytorch")
    job.train(out)
    return out
