"""Floods of HTTP/2 frames: the speech server goes on, answers others, and does not keep the flood in memory."""

import time

import grpc
import psutil
import pytest

from serving.speech_server.protos import dlserver_pb2
from tests.http2_floods import FLOODS, closes_what_does_not_greet, survives
from tests.serving.speech_server.running_speech import SpeechServer
from tests.serving.speech_server.speech_models import tone
from tests.waiting import PATIENCE

METHOD = "/windtunnel.speech.v1.Speech/Recognize"
CLIP = dlserver_pb2.InferenceRequest(audio_samples=tone(3).tolist())


def answered(server: SpeechServer) -> bool:
    """False if the call was rejected because too many wait: a client tries again."""
    try:
        return server.old.Infer(CLIP, timeout=PATIENCE).label == 3
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED):
            raise
        return False


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_nobody_elses_service(speech_server: SpeechServer, flood) -> None:
    survives(psutil.Process(speech_server.process.pid), speech_server.port, flood(METHOD), lambda: answered(speech_server))


def test_ten_thousand_metadata_entries_are_refused(speech_server: SpeechServer) -> None:
    metadata = [(f"key{number}", "value") for number in range(10_000)]
    with pytest.raises(grpc.RpcError) as error:
        speech_server.old.Infer(CLIP, timeout=PATIENCE, metadata=metadata)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answered(speech_server)


def test_connections_that_do_not_greet_are_closed(speech_server: SpeechServer) -> None:
    start = time.monotonic()
    closes_what_does_not_greet(speech_server.port, lambda: answered(speech_server))
    assert time.monotonic() - start < 110  # gRPC itself waits for 120 s
