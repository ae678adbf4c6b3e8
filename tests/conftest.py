import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests import parts
from tests.extension import installed
from tests.job import Job, write_idx
from tests.waiting import PATIENCE
from train_server.lenet5.model import Spec
from windtunnel.locks import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

with pytest.MonkeyPatch.context() as patch:  # not for what tests start
    # gRPC starts anew in each fork, and aborts it now and then if a test has a channel. Here, forks only start programs.
    patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    grpc.insecure_channel("localhost:1").close()  # reads it

LONGEST_IN_A_NAME = 100
DEADLINE = pytest.StashKey[parts.Deadline]()

settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a parameter of bytes, an array, a path or a long text by its argument, and not by its content.

    Content may depend on the clock (gzip writes it), on a folder or on a hash seed; the processes of pytest-xdist then collect different
    tests, and the run ends before the first.
    """
    binary = isinstance(val, bytes | bytearray | memoryview | np.ndarray | os.PathLike)
    return argname if binary or (isinstance(val, str) and len(val) > LONGEST_IN_A_NAME) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts and marks."""
    parts.sort(items)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the deadline of continuous integration."""
    text = "begin no file of tests that may not have ended by then, in seconds since 1970: its tests are skipped, and counted as such"
    parser.addoption("--end-by", type=float, metavar="TIME", default=math.inf, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Notes when the run has to end."""
    config.stash[DEADLINE] = parts.Deadline(config.getoption("--end-by"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that there is no time for."""
    if not item.config.stash[DEADLINE].allows(item):
        pytest.skip("NOT RUN: this machine is too slow to run all tests before --end-by")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> parts.ByFile:
    """How tests are given to processes."""
    return parts.ByFile(config, log)


@pytest.fixture
def extension(tmp_path: Path) -> Iterator[Path]:
    """A package that declares the framework `numpy` of `lenet5`, the model `blobs` and the backend `echo`, in a folder of its own."""
    with installed(tmp_path / "extension"):
        yield tmp_path / "extension"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> "MlflowClient":
    """A real MLflow store, in SQLite, with the experiment `lenet5`."""
    from mlflow import MlflowClient  # takes seconds, in every process of the tests

    place = tmp_path_factory.mktemp("mlflow")
    client = MlflowClient(f"sqlite:///{place}/mlflow.db", f"sqlite:///{place}/mlflow.db")
    client.create_experiment("lenet5", artifact_location=str(place / "artifacts"))
    return client


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
    """The version of a framework, trained once in a run of the tests by its real program; all of one seed from the same conditions.

    It is not to be changed: all processes of pytest-xdist, whose folders lie side by side, have the same.
    """
    jobs = cache(lambda seed: make_job(seed=seed))
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained"

    def train(framework: str, seed: int = 1) -> Path:
        out = shared / f"{framework}-{seed}"
        with held(shared / f"{out.name}.lock", f"the training of {out.name}", 3 * PATIENCE):
            if not out.exists():
                jobs(seed).train(framework, out)
        return out

    return train
