from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.job import Job, write_idx
from windtunnel.spec import Spec


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Draws a job: ten patterns in noise, 300 to train on and 48 to test on, as IDX files."""

    def make(**fields: object) -> Job:
        spec = Spec(**{"dataset": "tiny", "mean": 0.2, "std": 0.3, "samples": 300, "batch_size": 16, "epochs": 2, "threads": 1} | fields)
        job = Job(tmp_path_factory.mktemp("job"), spec)
        job.data.mkdir()
        generator = np.random.default_rng(7)
        patterns = generator.integers(0, 200, (10, 28, 28))
        for prefix, count in (("train", 300), ("t10k", 48)):
            labels = generator.integers(0, 10, count)
            write_idx(job.data / f"{prefix}-images-idx3-ubyte", patterns[labels] + generator.integers(0, 56, (count, 28, 28)))
            write_idx(job.data / f"{prefix}-labels-idx1-ubyte", labels)
        job.draw()
        return job

    return make


@pytest.fixture(scope="session")
def trained(make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The version of a framework, trained once by its real program; all of one seed from the same conditions."""
    jobs = cache(lambda seed: make_job(seed=seed))

    @cache
    def train(framework: str, seed: int = 1) -> Path:
        out = tmp_path_factory.mktemp(framework) / "version"
        done = jobs(seed).run(framework, out)
        assert (done.returncode, done.stderr) == (0, "")
        return out

    return train
