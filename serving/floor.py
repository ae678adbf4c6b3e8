"""The protocol floor: a served version that computes nothing, so that what is left is the server, its protocol and its client.

It answers with a multiple of the first ten pixels of an image: as many numbers as a model, and of as many digits. It is published through
the port of the servers, beside what they serve, and withdrawn in the end.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from serving.server import Server, ServerError, Version
from windtunnel.errors import WindtunnelError

NAME = "floor"  # of no framework, and in no registry
CLASSES = 10
SCALE = 0.1234567  # of which a multiple has as many digits as a logit


def mark(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images, float32 (N,28,28,1), for which the floor gives these labels."""
    marked = images.copy()
    marked[:, 0, :CLASSES, 0] = np.arange(1, CLASSES + 1)
    marked[np.arange(len(labels)), 0, labels, 0] = 255
    return marked


@contextmanager
def floors(
    servers: Iterable[Server], say: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Version]]:
    """Publish a floor on each server, by its name, for as long as the context lasts; of one that refuses it, say why.

    Args:
        servers: where.
        say: called with a line.
        meanwhile: called while the servers load what was published.
    """
    with tempfile.TemporaryDirectory() as place, ExitStack() as withdrawals:
        published, loaded = {}, {}
        for server in servers:
            version = Version(NAME, 1, Path(place) / server.name)
            withdrawals.callback(_withdraw, server, version, say)
            with _without(server, say):
                _write(server.name, version.directory)
                server.publish(version)
                published[server] = version
        meanwhile()
        for server, version in published.items():
            with _without(server, say):
                server.wait(version)
                loaded[server.name] = version
        yield loaded


@contextmanager
def _without(server: Server, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except (WindtunnelError, ImportError) as error:
        say(f"{server.name} is measured without its floor: {error}")


def _withdraw(server: Server, version: Version, say: Callable[[str], None]) -> None:
    try:
        server.withdraw(version.name, version.number)
    except ServerError as error:  # what was measured is right nevertheless
        say(f"the floor may still be on {server.name} ({error}): `windtunnel reconcile` withdraws it")


def _write(server: str, directory: Path) -> None:
    """Write a floor's artefact, in a server's format."""
    directory.mkdir()
    if server == "torchserve":
        from serving.torchserve.floor import write_floor
    else:
        from serving.tfserving.floor import write_floor
    write_floor(directory, CLASSES, SCALE)
