"""What clients notice of a replacement, measured at a real server; that a retraining precedes it, `make bench-speech-swap` sees to."""

import asyncio
from pathlib import Path

import grpc
import pytest

from benchmarks.speech.model_replacement import Watched, describe, watch
from serving.load.generators import Sample
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest
from serving.speech_server.protos.speech_pb2 import GetModelRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from tests.serving.speech_server.running_speech import DIRECT, SpeechServer, in_loop, running
from tests.serving.speech_server.speech_models import tone, write_version

pytestmark = pytest.mark.minutes(1)

CLIENTS, SECONDS = 20, 0.5
MESSAGES = [InferenceRequest(audio_samples=tone(word).tolist()).SerializeToString() for word in range(8)]


async def replaced(server: SpeechServer) -> Watched:
    """What clients noticed while version 1 took the place of the first."""
    async with grpc.aio.insecure_channel(server.address, DIRECT) as channel:

        async def replace() -> None:
            server.want(1, 1)
            while (await SpeechStub(channel).GetModel(GetModelRequest())).champion != 1:
                await asyncio.sleep(0.05)

        return await watch(channel, MESSAGES, CLIENTS, SECONDS, replace)


@in_loop
async def test_every_request_is_answered_by_the_old_version_or_the_new_one(version: Path, tmp_path: Path) -> None:
    write_version(tmp_path / "models" / "1", shift=1)
    with running(tmp_path, ModelPath=str(version)) as server:
        found = await replaced(server)
    assert found.errors() == []
    assert found.answers() == {(word, (word + shift) % 8) for word in range(8) for shift in (0, 1)}
    phases = found.phases()
    assert set(phases) == {"steady", "retraining", "swap"}
    assert all(0 < figures.p50 <= figures.p99 and figures.requests_per_second > 0 for figures in phases.values())
    assert found.ended - found.steady > 3 * SECONDS


def noticed(*, then: float = 0.1, error: grpc.aio.AioRpcError | None = None) -> Watched:
    """Requests that take 0.1 s, and so long for a second and a half after the model is replaced at 6 s; one that failed."""
    times = [(number / 10, then if 60 <= number < 75 else 0.1) for number in range(120)]
    samples = [Sample(sent, sent, sent + took, (0, 0)) for sent, took in times]
    return Watched(10, samples + ([Sample(3, 3, 3, error)] if error else []), 0, 2, 6, 14, 2)


def test_what_takes_three_times_as_long_is_allowed_and_no_more() -> None:
    _, well = describe(noticed(then=0.29))
    assert well
    text, well = describe(noticed(then=0.4))
    assert not well
    assert "swap: 10 requests/s, p50 100 ms, p99 400 ms" in text


def test_a_request_that_fails_is_one_too_many() -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata(), "10 calls run already")
    text, well = describe(noticed(error=error))
    assert not well
    assert "121 requests, 1 failed, the first as RESOURCE_EXHAUSTED: 10 calls run already;" in text
