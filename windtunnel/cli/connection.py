"""Connect to the registry for a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from windtunnel.settings import Settings


@contextmanager
def connected(settings: "Settings") -> Iterator["MlflowClient"]:
    """Connect MLflow's client. It would retry for minutes if the server is down, so the aliases are read first, which fails at once."""
    from windtunnel.aliases import Aliases

    Aliases(settings).all()
    from windtunnel import tracking

    with tracking.reachable(settings):
        yield tracking.client(settings)
