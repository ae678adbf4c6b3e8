"""The versions that a benchmark measures, each with its server and its golden set."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.backends.base import Protocol, Server, Version
from serving.backends.catalog import connect, server_of
from serving.load.requests import Requests, batches
from windtunnel.errors import WindtunnelError
from windtunnel.golden import LABEL, read_golden
from windtunnel.model import Framework, Model, declared
from windtunnel.settings import Settings


@dataclass(frozen=True, eq=False)
class Subject:
    """A version that is loaded on its server.

    Attributes:
        version: the version.
        server: the server that has loaded it; versions on the same server share this object.
        model: the declaration of what it is a version of.
        framework: the declaration of what trained it.
        samples: the inputs of the golden set, float32 (N, shape).
        labels: the trainer's labels for them, (N,).
    """

    version: Version
    server: Server
    model: Model
    framework: Framework
    samples: np.ndarray
    labels: np.ndarray

    def requests(self, protocol: Protocol, batch: int) -> Requests:
        """Return requests with the golden set."""
        return self.server.requests(self.version.name, batches(self.samples, self.labels, batch), self.version.number, protocol)


def find_subjects(settings: Settings, versions: Sequence[Version]) -> list[Subject]:
    """Return the versions as subjects of a benchmark, in their order.

    Raises:
        WindtunnelError: a server does not answer, a version is not loaded, or ApacheBench is not installed.
    """
    if not shutil.which("ab"):
        raise WindtunnelError("ab, which measures REST, is not installed. Install it: apt-get install apache2-utils")
    servers = {name: connect(name, settings) for name in {server_of(version.name) for version in versions}}
    return [_subject(version, servers[server_of(version.name)]) for version in versions]


def _subject(version: Version, server: Server) -> Subject:
    if version.number not in server.served(version.name).versions:
        loads = f"`windtunnel deploy {version.name}@{version.number}` loads it and makes it the champion"
        raise WindtunnelError(f"{version} is not loaded on {server.name}. {loads}")
    model, framework = declared(version.name)
    golden = read_golden(version.directory, model)
    return Subject(version, server, model, framework, golden[model.input.name], golden[LABEL])
