"""What the platform knows about TorchServe."""

from typing import ClassVar

from windtunnel.backend import Backend
from windtunnel.server_settings import LOOPBACK, Host, Port, ServerSettings


class TorchServeSettings(ServerSettings):
    """TorchServe's hosts and ports."""

    health: ClassVar[str | None] = "/ping"

    management_host: Host = LOOPBACK
    """The address on which TorchServe's management APIs listen, independent of `WINDTUNNEL_HOST`."""
    inference_port: Port = 8082
    """TorchServe: inference over REST."""
    management_port: Port = 8081
    """TorchServe: management over REST."""
    grpc_inference_port: Port = 7070
    """TorchServe: inference over gRPC."""
    grpc_management_port: Port = 7071
    """TorchServe: management over gRPC."""

    @property
    def address(self) -> str:
        """Address of the inference API, without a trailing slash."""
        return f"http://{self.reached_at}:{self.inference_port}"

    @property
    def management_url(self) -> str:
        """Address of the management API, without a trailing slash."""
        return f"http://{self.host or self.management_host}:{self.management_port}"

    @property
    def grpc(self) -> str:
        """HOST:PORT of inference over gRPC."""
        return f"{self.reached_at}:{self.grpc_inference_port}"


TORCHSERVE = Backend(
    name="torchserve",
    title="TorchServe",
    client="serving.backends.torchserve.backend:TorchServe",
    program="serving.backends.torchserve.serve",
    settings=TorchServeSettings,
    packages=("grpcio", "torchserve"),
)
