"""The port behind which a model server is: five verbs, and a look at what it serves. The release knows this, and no server."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from windtunnel.errors import WindtunnelError

if TYPE_CHECKING:  # it imports the load generators
    from serving.requests import Batch, Requests

Protocol = Literal["rest", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

READY_SECONDS = 300.0  # on a busy machine; what cannot be loaded is said at once
POLL_SECONDS = 0.05

Outputs = dict[str, np.ndarray]
"""What a model answers, by name: `logits` and `probabilities`, float32 (N,10), a row an image; of spoken commands (N,8), a row a clip."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model, with its files in `directory`, which has been held against its manifest."""

    name: str
    number: int
    directory: Path

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


@dataclass(frozen=True)
class Served:
    """What a server serves of one registered model: the versions that are loaded and answer, and the one users get."""

    versions: frozenset[int]
    champion: int | None


class ServerError(WindtunnelError):
    """A server does not answer, or refuses. `retriable` where it may answer later, as while it starts."""

    def __init__(self, message: str, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


START = "start it, as by `windtunnel up`"
"""What to do about a server that does not answer."""


def not_loaded(server: str, name: str, number: int) -> ServerError:
    """What is raised of a version that a server does not have."""
    return ServerError(f"{name} version {number} is not loaded on {server}: `windtunnel deploy {name}@{number}` publishes it")


class Server(ABC):
    """A model server. Every verb can be repeated: a step that was done changes nothing, so a release can start again after a crash.

    Raises, from every verb:
        ServerError: the server does not answer in time, or refuses; the text names server, model, version and reason.
    """

    name: ClassVar[str]
    protocols: ClassVar[tuple[Protocol, ...]] = PROTOCOLS

    @abstractmethod
    def publish(self, version: Version) -> None:
        """Have a version loaded beside those that are, answering to its number alone: no user gets it."""

    @abstractmethod
    def ready(self, name: str, number: int) -> bool:
        """Whether a published version answers by now.

        Raises:
            ServerError: it never will: loading has failed; the text says why.
        """

    def load(self, version: Version) -> None:
        """Publish a version and wait until it is ready."""
        self.publish(version)
        self.wait(version)

    def wait(self, version: Version) -> None:
        """Wait until a published version is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready(version.name, version.number):
            if time.monotonic() > deadline:
                raise ServerError(f"{version} is not ready on {self.name} after {READY_SECONDS:g} s: see the server's log")
            time.sleep(POLL_SECONDS)

    @abstractmethod
    def predict(self, name: str, images: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """What a version answers, the champion without a number, asked over a real protocol of the server.

        Args:
            name: the registered model.
            images: float32 (N,28,28,1), pixels 0..255; of spoken commands clips, float32 (N,16000) in -1..1.
            number: the version.
            protocol: `rest` or `grpc`.
        """

    @abstractmethod
    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """The requests by which users ask for each batch: what a load generator sends. The arguments are those of `predict`."""

    @abstractmethod
    def promote(self, name: str, number: int) -> None:
        """Let users get a version that is ready, without losing a request; the one before stays loaded."""

    @abstractmethod
    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove what was published of it. The champion cannot be withdrawn while there is another."""

    @abstractmethod
    def served(self, name: str) -> Served:
        """What the server serves of a registered model."""

    @abstractmethod
    def published(self, name: str) -> frozenset[int]:
        """All versions the server has of a registered model: loaded, loading, or left behind by a release that was cut off."""

    @abstractmethod
    def names(self) -> list[str]:
        """The registered models of which the server has versions."""

    @abstractmethod
    def example(self, name: str) -> str:
        """A command that asks the champion about the picture `img/digit.png`, or `clip.wav`, as users would type it."""
