from tests.serving.speech_server.conftest import version

__all__ = ["version"]
