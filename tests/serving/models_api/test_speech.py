"""The service with the real speech server: recordings in place of pictures, and words in place of numbers."""

from base64 import b64decode

import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.release.release import Cause, Release
from tests.serving.conftest import house_of
from tests.serving.models_api.running_service import service
from tests.serving.speech_server.speech_models import tone, write_version
from windtunnel.data.clips import WORDS, as_pcm
from windtunnel.data.wav import read_wav, wav_bytes

pytestmark = pytest.mark.minutes(1)

NAME = "speech-commands"
WAV = {"Content-Type": "audio/wav"}
TRY = "/api/try?model=speech_commands"


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return write_version(tmp_path_factory.mktemp("speech") / "version")


@pytest.fixture(scope="module")
def client(tmp_path_factory, version):
    """The service beside a champion that tells tones apart."""
    with house_of(tmp_path_factory.mktemp("house"), "mlflow", "speech") as house:
        known = house.register(version)
        Release(house.settings, NAME).promote(known.version, Cause("ada", "the first", None))
        with service(house.settings) as client:
            yield client


def test_a_recording_is_answered_with_words(client):
    found = client.post(TRY, content=wav_bytes(as_pcm(tone(2)[None])[0]), headers=WAV).json()
    (answer,) = found["answers"]
    assert (answer["name"], answer["version"], answer["label"], answer["problem"]) == (NAME, 1, WORDS[2], None)
    assert [bar["label"] for bar in answer["bars"]] == list(WORDS)
    assert max(answer["bars"], key=lambda bar: bar["value"])["label"] == WORDS[2]
    assert found["seen"] is None


def test_the_golden_set_is_recordings_that_can_be_played_and_asked(client, version):
    golden = load_file(version / "golden.safetensors")
    shown = client.get("/api/samples?model=speech_commands").json()["samples"]
    assert [each["label"] for each in shown] == [WORDS[label] for label in golden["label"]]
    assert {each["image"] for each in shown} == {None}
    played = read_wav(b64decode(shown[3]["audio"].removeprefix("data:audio/wav;base64,")))
    np.testing.assert_array_equal(played, as_pcm(golden["audio"][3:4])[0])
    (answer,) = client.post(f"{TRY}&sample=3").json()["answers"]
    assert answer["label"] == shown[3]["label"]


def test_silence_is_said_and_what_is_no_recording_of_a_second_is_refused(client):
    (answer,) = client.post(TRY, content=wav_bytes(np.zeros(16_000, np.int16)), headers=WAV).json()["answers"]
    assert (answer["label"], answer["bars"]) == (None, [])
    assert "silence" in answer["problem"]
    for content, said in (
        (wav_bytes(np.ones(40_000, np.int16)), "wrong length"),
        (b"\x89PNG\r\n", "expected a WAV file"),
        (b"RIFF", "not a WAV file"),
    ):
        reply = client.post(TRY, content=content, headers=WAV)
        assert reply.status_code == 400
        assert said in reply.json()["detail"]


def test_it_has_no_predictions_of_a_test_set_to_compare(client):
    found = client.get("/api/compare", params={"a": f"{NAME}@1", "b": f"{NAME}@1"}).json()
    assert found["differences"] is None
    assert found["a"]["curve"] == []
