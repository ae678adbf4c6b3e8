"""The interface of all backends: five verbs, and what the server serves. Releases use only this interface and no particular server."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from windtunnel.errors import WindtunnelError
from windtunnel.model import Model, declared, find_model
from windtunnel.waiting import wait_until

if TYPE_CHECKING:  # this module imports the load generators
    from serving.load.requests import Batch, Requests

Protocol = Literal["rest", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

READY_SECONDS = 300.0  # enough for a busy machine; a version that cannot be loaded is reported at once
POLL_SECONDS = 0.05

Outputs = dict[str, np.ndarray]
"""A model's answer: each declared output by name, float32 (N,…), a row per sample; of LeNet-5 `logits` and `probabilities`, (N,10)."""

NO_OP = "no-op-baseline"
"""What the names of no-op baselines begin with. They belong to no framework and are in no registry."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model. Its files are in `directory` and have been checked against its manifest."""

    name: str
    number: int
    directory: Path

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


@dataclass(frozen=True)
class Served:
    """What a server serves of one registered model: the versions that are loaded and answer, and the champion that users get."""

    versions: frozenset[int]
    champion: int | None


def baseline_name(model: Model) -> str:
    """Return the name under which the no-op baseline of a model is served."""
    return f"{NO_OP}-{model.name}"


def served_model(name: str) -> Model:
    """Return the declaration of what is served under a name: of a registered model, or of the model that a no-op baseline stands for.

    Raises:
        WindtunnelError: no package declares it.
    """
    if name.startswith(f"{NO_OP}-"):
        return find_model(name.removeprefix(f"{NO_OP}-"))
    return declared(name)[0]


class ServerError(WindtunnelError):
    """A server does not answer, or refuses a request. `retriable` if it may succeed later, for example while the server starts."""

    def __init__(self, message: str, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


START = "Start it, for example with `windtunnel up`"
"""The next step in errors about a server that does not answer."""


def not_loaded(server: str, name: str, number: int) -> ServerError:
    """Return the error for a version that a server has not loaded."""
    return ServerError(f"{name} version {number} is not loaded on {server}. Publish it: `windtunnel deploy {name}@{number}`")


class Server(ABC):
    """A model server. All verbs are idempotent, so a release can be repeated after a crash.

    Every verb raises:
        ServerError: the server does not answer in time, or refuses; the message names server, model, version and reason.
    """

    name: ClassVar[str]
    protocols: ClassVar[tuple[Protocol, ...]] = PROTOCOLS
    benchmarked: ClassVar[bool] = True
    """Whether `requests` is implemented, so that `windtunnel bench` can measure the server."""

    @abstractmethod
    def publish(self, version: Version) -> None:
        """Load a version next to the others. It is reachable only by its number, so no user gets it."""

    @abstractmethod
    def ready(self, name: str, number: int) -> bool:
        """Return whether a published version answers.

        Raises:
            ServerError: loading has failed for good; the message says why.
        """

    def load(self, version: Version) -> None:
        """Publish a version and wait until it is ready."""
        self.publish(version)
        self.wait(version)

    def wait(self, version: Version) -> None:
        """Wait until a published version is ready."""
        if not wait_until(lambda: self.ready(version.name, version.number), READY_SECONDS, POLL_SECONDS):
            raise ServerError(f"{version} is not ready on {self.name} after {READY_SECONDS:g} s. See the server's log")

    @abstractmethod
    def predict(self, name: str, samples: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Send samples to a version, or to the champion if `number` is None, over one of the server's protocols.

        Args:
            name: the registered model. `served_model` returns its declaration.
            samples: float32 (N, shape), with the shape of the declared input; for LeNet-5 (N,28,28,1), pixels 0..255.
            number: the version.
            protocol: `rest` or `grpc`.
        """

    @abstractmethod
    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Return the requests, as users would send them, for a load generator: one per batch. Arguments as in `predict`."""

    @abstractmethod
    def promote(self, name: str, number: int) -> None:
        """Make a version that is ready the champion without losing a request. The previous champion stays loaded."""

    @abstractmethod
    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove its published files. The champion can be withdrawn only if it is the last version."""

    @abstractmethod
    def served(self, name: str) -> Served:
        """Return what the server serves of a registered model."""

    @abstractmethod
    def published(self, name: str) -> frozenset[int]:
        """Return all versions of a registered model that the server has: loaded, loading, or left by an interrupted release."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the registered models of which the server has versions."""

    @abstractmethod
    def example(self, name: str) -> str:
        """Return a shell command that sends `img/digit.png`, `clip.wav` or `sample.npy`, by the declared input, to the champion."""
