"""What the service reads from."""

from dataclasses import dataclass

from serving.models_api.files import Files
from serving.models_api.servers import Servers
from windtunnel.aliases import Aliases
from windtunnel.settings import Settings

REGISTRY_SECONDS = 5.0
"""The timeout of a request to MLflow: the page does not wait as long as a release does."""


@dataclass(frozen=True)
class Sources:
    """The registry, the model servers and the files of versions; `settings` say where the runs and the audit log are."""

    settings: Settings
    registry: Aliases
    servers: Servers
    files: Files


def connect(settings: Settings) -> Sources:
    """Return the sources that the settings name. None has to answer yet."""
    return Sources(settings, Aliases(settings, REGISTRY_SECONDS), Servers(settings), Files(settings))
