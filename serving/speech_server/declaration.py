"""What the platform knows about the speech server."""

from windtunnel.backend import Backend
from windtunnel.server_settings import Port, ServerSettings


class SpeechSettings(ServerSettings):
    """The speech server's host and port."""

    port: Port = 55221
    """The speech server: gRPC, health checks and reflection."""

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC."""
        return f"{self.reached_at}:{self.port}"


SPEECH = Backend(
    name="speech",
    title="Speech",
    client="serving.backends.speech:SpeechServer",
    program="serving.speech_server.serve",
    settings=SpeechSettings,
    packages=("grpcio",),
)
