"""Connect to model servers, and map each registered model to its server."""

from collections.abc import Callable

from serving.backends.base import Server
from windtunnel.backend import find_backend
from windtunnel.declarations import resolve
from windtunnel.model import declared, find_registered
from windtunnel.settings import Settings


def connect(server: str, settings: Settings) -> Server:
    """Return the client of a declared backend, connected as the settings say.

    Raises:
        WindtunnelError: no installed package declares it, or the client cannot be imported.
    """
    client: Callable[[Settings], Server] = resolve(find_backend(server).client, server)
    return client(settings)


def find_server(name: str) -> str | None:
    """Return the server of a registered model, such as `torchserve` for `lenet5-libtorch`; None if no package declares the model."""
    known = find_registered(name)
    return known[1].backend if known else None


def server_of(name: str) -> str:
    """Return the server of a registered model. Raises as `declared`."""
    return declared(name)[1].backend
