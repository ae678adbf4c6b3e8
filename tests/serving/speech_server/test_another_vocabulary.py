"""Another recogniser by configuration alone: a data set with a manifest, a server with an INI file, and suggestions of its words."""

import json
import wave
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from serving.speech_server.protos.speech_pb2 import ListLabelsRequest, ListSuggestionsRequest, RecognizeRequest, SuggestRequest
from tests.serving.speech_server.running_speech import running
from windtunnel.data.datasets import find
from windtunnel.data.recordings import DIGITS, RECORDINGS, Recordings, source_of

pytestmark = pytest.mark.minutes(1)

SPEAKERS = 30


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """What people said, where it is at hand, else what a synthesiser says; of each speaker each word a few times."""
    source = RECORDINGS["free_spoken_digits"]
    if (place := find(source)) is not None:
        return source.read("free_spoken_digits", place)
    place, source = tmp_path_factory.mktemp("digits"), RECORDINGS["demonstration_digits"]
    source.get(place)
    return source.read("demonstration_digits", place)


@pytest.fixture(scope="module")
def mine(digits: Recordings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own data set of them: 8 kHz, other names of files, some 300 recordings, a manifest in the zip."""
    file = tmp_path_factory.mktemp("mine") / "my_digits.zip"
    speakers = np.unique(digits.speakers).tolist()[:SPEAKERS]
    taken: dict[tuple[str, int], int] = {}
    with ZipFile(file, "w") as archive:
        for clip, label, speaker in zip(digits.clips, digits.labels.tolist(), digits.speakers.tolist(), strict=True):
            number = taken[speaker, label] = taken.get((speaker, label), -1) + 1
            if speaker in speakers and number < 300 // len(speakers) // 10:
                archive.writestr(f"my digits/{speaker}/{number}-{label}.wav", wav_of_8000_hz(clip))
        manifest = {
            "title": "My digits",
            "words": {str(number): word for number, word in enumerate(DIGITS)},
            "sample_rate": 8000,
            "recording": "{speaker}/{n}-{word}.wav",
            "test": speakers[: max(1, len(speakers) // 5)],
            "validation": speakers[-max(1, len(speakers) // 10) :],
        }
        archive.writestr("my digits/recordings.json", json.dumps(manifest))
    return file


def wav_of_8000_hz(clip: np.ndarray) -> bytes:
    content = BytesIO()
    with wave.open(content, "wb") as stream:
        stream.setparams((1, 2, 8000, 0, "NONE", ""))
        stream.writeframes(clip.reshape(-1, 2).mean(axis=1).astype("<i2").tobytes())
    return content.getvalue()


def test_ten_digits_are_learned_served_and_suggested(mine: Path, tmp_path: Path) -> None:
    """No line of code names the words: BaseSamplesPath does, by the manifest."""
    data = source_of("my_digits").read("my_digits", mine.parent)
    assert data.words == DIGITS
    clips, labels = data.split("test")
    with running(tmp_path, SamplesBeforeTrain="10", BaseSamplesPath=str(mine)) as server:
        assert [each.word for each in server.new.ListLabels(ListLabelsRequest()).labels] == list(DIGITS)  # before there is a model
        for label, word in enumerate(DIGITS):
            server.new.Suggest(SuggestRequest(word=word, pcm=data.clips[data.labels == label][0][:-100].tobytes()))
        server.wait_until_retrained()
        states = {each.state for each in server.new.ListSuggestions(ListSuggestionsRequest()).suggestions}
        assert states <= {"trained", "claimed"}
        heard = [server.new.Recognize(RecognizeRequest(pcm=clip.tobytes(), reject_below=0)).word for clip in clips]
        assert set(heard) - {""} <= set(DIGITS)  # "" is silence
        assert np.mean([word == DIGITS[label] for word, label in zip(heard, labels.tolist(), strict=True)]) > 0.3, "a tenth is chance"
