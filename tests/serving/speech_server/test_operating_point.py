"""Below which probability a clip is rejected: by the version, the configuration or the request, asked of a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest
from serving.speech_server.protos.speech_pb2 import GetModelRequest, RecognizeLongRequest, RecognizeRequest
from tests.serving.speech_server.running_speech import SpeechServer, running
from tests.serving.speech_server.speech_models import OPERATING_POINTS, noise, tone, write_version
from tests.waiting import wait_for
from windtunnel.data.clips import as_pcm

NOISY = as_pcm((tone(2) + noise(0.4)) / 2).tobytes()
"""A tone in noise: heard as a word with a probability between the operating points."""


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_version(tmp_path_factory.mktemp("calibrated") / "version", calibrated=True)


@pytest.fixture(scope="module")
def strict(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechServer]:
    """A server that rejects more than its version would."""
    with running(tmp_path_factory.mktemp("strict"), ModelPath=str(calibrated), RejectBelow="0.8") as server:
        yield server


def test_the_configuration_chooses_and_a_request_does_so_for_itself(strict: SpeechServer) -> None:
    answer = strict.new.Recognize(RecognizeRequest(pcm=NOISY))
    assert (answer.rejected, answer.reason, answer.HasField("label"), len(answer.scores)) == (True, "unknown word", False, 8)
    best = max(answer.scores, key=lambda score: score.probability)
    assert best.word == "left"
    assert 0.6 < best.probability < 0.8
    own = strict.new.Recognize(RecognizeRequest(pcm=NOISY, reject_below=0.6))
    assert (own.rejected, own.word, own.label) == (False, "left", 2)
    assert own.scores == answer.scores
    nothing = strict.new.Recognize(RecognizeRequest(pcm=as_pcm(noise()).tobytes(), reject_below=0))
    assert (nothing.rejected, nothing.HasField("label")) == (False, True)
    assert strict.new.Recognize(RecognizeRequest(pcm=as_pcm(tone(2)).tobytes(), reject_below=1)).rejected


def test_so_do_those_of_a_longer_recording(strict: SpeechServer) -> None:
    recording = as_pcm(tone(5)).tobytes() + NOISY

    def words(**request: float) -> list[str]:
        asked = RecognizeLongRequest(pcm=recording, hop_milliseconds=1000, **request)
        return [each.word for each in strict.new.RecognizeLong(asked)]

    assert words() == ["stop"]
    assert words(reject_below=0.6) == ["stop", "left"]
    assert words(reject_below=1) == []


def test_the_old_protocol_rejects_nothing(strict: SpeechServer) -> None:
    samples = np.frombuffer(NOISY, "<i2").tolist()
    assert strict.old.Infer(InferenceRequest(audio_samples=samples)).label == 2


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_what_is_no_probability_is_refused(speech_server: SpeechServer, value: float) -> None:
    for call in (
        lambda: speech_server.new.Recognize(RecognizeRequest(pcm=NOISY, reject_below=value)),
        lambda: list(speech_server.new.RecognizeLong(RecognizeLongRequest(pcm=NOISY, reject_below=value))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        words = f"reject_below is not a probability: found {value:g}, expected 0 to 1, or not set for the server's own value"
        assert caught.value.details() == words


def test_the_model_tells_what_there_is_to_choose_from(strict: SpeechServer) -> None:
    model = strict.new.GetModel(GetModelRequest())
    assert model.reject_below == pytest.approx(0.8)
    assert len(model.operating_points) == len(OPERATING_POINTS)
    for found, point in zip(model.operating_points, OPERATING_POINTS, strict=True):
        assert found.HasField("others_rejected") == (point["others_rejected"] is not None)
        for name, value in point.items():
            assert getattr(found, name) == pytest.approx(value or 0)


def test_where_nobody_chooses_it_is_the_versions_own(calibrated: Path, version: Path, tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert not server.new.GetModel(GetModelRequest()).HasField("reject_below"), "there is no model yet"
        for number, directory in ((1, version), (2, calibrated)):
            shutil.copytree(directory, server.models / str(number))
        server.want(1, 1, 2)
        wait_for(lambda: list(server.new.GetModel(GetModelRequest()).loaded) == [1, 2])
        model = server.new.GetModel(GetModelRequest())
        assert model.reject_below == pytest.approx(0.6)
        assert not model.operating_points, "an older version has none"
        assert server.new.Recognize(RecognizeRequest(pcm=NOISY, model_version=2)).word == "left"
