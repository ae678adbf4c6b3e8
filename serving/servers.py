"""Which server serves what."""

from serving.server import Server
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

SERVERS = {"libtorch": "torchserve", "pytorch": "torchserve", "tensorflow": "tfserving", "commands": "speech"}
"""The server of each registered model, by the last word of its name: a framework of `lenet5`, or that of `speech-commands`."""


def connect(server: str, settings: Settings) -> Server:
    """The server of that name, as these settings say where it is. What its protocol needs is imported with it."""
    if server == "torchserve":
        from serving.torchserve.server import TorchServe

        return TorchServe(settings)
    if server == "tfserving":
        from serving.tfserving.server import TFServing

        return TFServing(settings)
    if server == "speech":
        from serving.speech.server import SpeechServer

        return SpeechServer(settings)
    raise WindtunnelError(f"there is no server {server!r}: there are {', '.join(sorted(set(SERVERS.values())))}")


def find_server(name: str) -> str | None:
    """The server of a registered model, such as `torchserve` of `lenet5-libtorch`; None of a model that is not of this project's kind."""
    return SERVERS.get(name.rpartition("-")[2])


def server_of(name: str) -> str:
    """The same.

    Raises:
        WindtunnelError: no server serves what the name's framework trains.
    """
    if (server := find_server(name)) is None:
        framework = name.rpartition("-")[2]
        raise WindtunnelError(f"{name!r} is not a registered model, its framework would be {framework!r}: `windtunnel models` lists them")
    return server
