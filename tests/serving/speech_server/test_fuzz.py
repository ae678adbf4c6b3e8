"""Whatever is sent, the server answers a status of its own, and goes on. `FUZZ_SECONDS` in the environment makes it longer."""

import contextlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import hypothesis.strategies as some
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from serving.speech_server.protos import dlserver_pb2, speech_pb2
from tests.serving.speech_server.running_speech import SpeechServer, running
from tests.serving.speech_server.speech_models import tone
from tests.waiting import PATIENCE
from windtunnel.data.clips import WORDS

pytestmark = pytest.mark.minutes(1)

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
SERVICES = (dlserver_pb2.DESCRIPTOR.services_by_name["DLServer"], speech_pb2.DESCRIPTOR.services_by_name["Speech"])
METHODS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

floats = some.floats(width=32)
clips = some.one_of(
    some.lists(floats, max_size=50),
    # A few numbers, over and over: long clips, of which a generator draws few.
    some.builds(lambda part, times: (part * times)[:20_000], some.lists(floats, min_size=1, max_size=8), some.integers(1, 4000)),
)
pcm = some.one_of(some.binary(max_size=200), some.builds(lambda part, times: part * times, some.binary(max_size=8), some.integers(1, 9000)))
integers = some.integers(-(2**31), 2**31 - 1)
messages = some.one_of(
    some.builds(dlserver_pb2.InferenceRequest, audio_samples=clips),
    some.builds(dlserver_pb2.TrainingRequest, audio_samples=clips, label=some.one_of(some.integers(0, 7), integers)),
    some.builds(speech_pb2.RecognizeRequest, pcm=pcm, samples=some.one_of(some.just([]), clips), model_version=some.integers(-1, 2)),
    some.builds(speech_pb2.RecognizeLongRequest, pcm=pcm, hop_milliseconds=some.integers(0, 2000), model_version=some.integers(-1, 2)),
    some.builds(
        speech_pb2.SuggestRequest,
        word=some.one_of(some.sampled_from(WORDS), some.text(max_size=9)),
        pcm=pcm,
        samples=some.one_of(some.just([]), clips),
    ),
    some.builds(speech_pb2.UndoSuggestionsRequest, ids=some.lists(some.integers(-(2**63), 2**63 - 1), max_size=9)),
    some.builds(speech_pb2.ListSuggestionsRequest, state=some.text(max_size=9)),
).map(lambda message: message.SerializeToString())
packed = some.builds(
    lambda numbers, tag: bytes([tag, len(numbers) * 4 % 128]) + struct.pack(f"<{len(numbers)}f", *numbers),
    some.lists(floats, max_size=30),
    some.integers(0, 255),
)
requests = some.one_of(messages, some.binary(max_size=300), packed)


def send(server: SpeechServer, method: str, request: bytes) -> grpc.StatusCode:
    """The status that a request ends with, sent as it is."""
    call = server.channel.unary_stream(method)(request, timeout=PATIENCE)
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    return call.code()


def fuzzer(server: SpeechServer, deadline: float) -> Callable[[], None]:
    """Some hundred requests, others at each call; none after the deadline."""

    @settings(
        max_examples=300, deadline=None, database=None, derandomize=False, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(some.sampled_from(METHODS), requests)
    def fuzz(method: str, request: bytes) -> None:
        if time.monotonic() < deadline:
            code = send(server, method, request)
            assert code in EXPECTED, f"{method} {request!r}: {code}; {server.log()[-3000:]}"

    return fuzz


def test_nothing_that_is_sent_ends_the_server(version: Path, tmp_path: Path) -> None:
    with running(tmp_path, ModelPath=str(version), SuggestionsPerPeerPerHour="50") as server:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            fuzzer(server, deadline)()
        assert server.old.Infer(dlserver_pb2.InferenceRequest(audio_samples=tone(3).tolist()), timeout=PATIENCE).label == 3
        assert "Traceback" not in server.log()
