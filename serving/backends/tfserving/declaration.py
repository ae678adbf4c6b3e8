"""What the platform knows about TensorFlow Serving."""

from typing import ClassVar

from windtunnel.backend import Backend
from windtunnel.server_settings import Port, ServerSettings


class TFServingSettings(ServerSettings):
    """TensorFlow Serving's host and ports."""

    health: ClassVar[str | None] = "/monitoring/prometheus/metrics"

    grpc_port: Port = 8500
    """TensorFlow Serving: gRPC."""
    rest_port: Port = 8501
    """TensorFlow Serving: REST."""

    @property
    def address(self) -> str:
        """Address of the REST API, without a trailing slash."""
        return f"http://{self.reached_at}:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """HOST:PORT of gRPC."""
        return f"{self.reached_at}:{self.grpc_port}"


TFSERVING = Backend(
    name="tfserving",
    title="TF Serving",
    client="serving.backends.tfserving.backend:TFServing",
    program="serving.backends.tfserving.serve",
    settings=TFServingSettings,
    packages=("grpcio",),
)
