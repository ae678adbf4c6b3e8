from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.speech.running_speech import SpeechServer, running
from tests.serving.speech.speech_models import write_version


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose words are those of the tones; not to be changed."""
    return write_version(tmp_path_factory.mktemp("speech") / "version")


@pytest.fixture(scope="session")
def speech_server(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechServer]:
    """A server that answers with `version`, for tests that leave it as it is but for suggestions."""
    with running(tmp_path_factory.mktemp("speech-server"), ModelPath=str(version)) as server:
        yield server
