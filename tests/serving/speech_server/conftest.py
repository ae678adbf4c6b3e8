from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.speech_server.feedback.journal import Journal, Limits
from tests.serving.speech_server.feedback.journals import GENEROUS
from tests.serving.speech_server.running_speech import SpeechServer, running
from tests.serving.speech_server.speech_models import write_version


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose words are those of the tones; not to be changed."""
    return write_version(tmp_path_factory.mktemp("speech") / "version")


@pytest.fixture(scope="session")
def speech_server(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechServer]:
    """A server that answers with `version`, for tests that leave it as it is but for suggestions."""
    with running(tmp_path_factory.mktemp("speech-server"), ModelPath=str(version)) as server:
        yield server


@pytest.fixture
def open_journal(tmp_path: Path):
    opened = []

    def open_one(limits: Limits = GENEROUS) -> Journal:
        opened.append(Journal(tmp_path / "state" / "journal.db", tmp_path / "uploads", limits))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[..., Journal]) -> Journal:
    return open_journal()
