"""What holds for every call, on a real gRPC server whose methods answer when the test lets them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.speech_server import interceptor as module
from serving.speech_server import turns
from serving.speech_server.access import Access, Context, Tokens
from serving.speech_server.batching import BusyError
from serving.speech_server.feedback.journal import JournalError, QuotaError
from serving.speech_server.interceptor import CallInterceptor
from serving.speech_server.metrics import Metrics
from serving.speech_server.protos import speech_pb2
from serving.speech_server.protos.speech_pb2_grpc import SpeechServicer, SpeechStub, add_SpeechServicer_to_server
from serving.speech_server.status import CallError, Code
from tests.serving.speech_server.running_speech import DIRECT, in_loop

QUESTION = speech_pb2.RecognizeRequest()
RECORDING = speech_pb2.RecognizeLongRequest()


@dataclass
class Patient(SpeechServicer):
    """Answers Recognize when it is let, and RecognizeLong for ever. GetModel fails."""

    calls: CallInterceptor
    let: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception = field(default_factory=Exception)

    async def Recognize(self, request: speech_pb2.RecognizeRequest, context: Context) -> speech_pb2.RecognizeResponse:
        await self.let.wait()
        return speech_pb2.RecognizeResponse()

    async def RecognizeLong(self, request: speech_pb2.RecognizeLongRequest, context: Context) -> AsyncIterator[speech_pb2.Segment]:
        while True:
            yield speech_pb2.Segment()
            await asyncio.sleep(0.01)

    async def GetModel(self, request: speech_pb2.GetModelRequest, context: Context) -> speech_pb2.GetModelResponse:
        raise self.failure


@asynccontextmanager
async def connected(limit: int, tokens: Tokens | None = None) -> AsyncIterator[tuple[Patient, grpc.aio.Server, grpc.aio.Channel]]:
    patient = Patient(CallInterceptor(limit, Access(tokens), Metrics()))
    server = grpc.aio.server(interceptors=[patient.calls])
    add_SpeechServicer_to_server(patient, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
            yield patient, server, channel
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving(limit: int) -> AsyncIterator[tuple[Patient, grpc.aio.Server, SpeechStub]]:
    async with connected(limit) as (patient, server, channel):
        yield patient, server, SpeechStub(channel)


async def until_running(calls: CallInterceptor, number: int) -> None:
    while calls.running != number:
        await asyncio.sleep(0.01)


@in_loop
async def test_what_runs_is_answered_before_the_server_stops() -> None:
    async with serving(9) as (patient, server, stub):
        call = stub.Recognize(QUESTION)
        await until_running(patient.calls, 1)
        draining = asyncio.ensure_future(patient.calls.drain(server))
        while patient.calls.opened.is_set():
            await asyncio.sleep(0.01)
        patient.let.set()
        assert await call == speech_pb2.RecognizeResponse()
        await draining


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_what_takes_too_long_ends_as_unavailable() -> None:
    async with serving(2) as (patient, server, stub):
        call, stream = stub.Recognize(QUESTION), stub.RecognizeLong(RECORDING)
        await until_running(patient.calls, 2)
        waiting = stub.RecognizeLong(RECORDING)
        await until_running(patient.calls, 3)
        _, *ended = await asyncio.gather(patient.calls.drain(server), call, last(stream), last(waiting), return_exceptions=True)
        assert [(error.code(), error.details()) for error in ended] == [(Code.UNAVAILABLE, module.ENDING)] * 3
        assert patient.calls.running == 0


async def last(stream: grpc.aio.UnaryStreamCall) -> None:
    async for _ in stream:
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 1.5)


@in_loop
async def test_who_gives_up_while_held_back_runs_no_more() -> None:
    async with serving(9) as (patient, _, stub):
        patient.calls.opened.clear()
        call = stub.Recognize(QUESTION)
        await until_running(patient.calls, 1)
        call.cancel()
        await until_running(patient.calls, 0)


@in_loop
async def test_more_than_may_run_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAITING", 3)
    async with serving(2) as (patient, _, stub):
        calls = [stub.Recognize(QUESTION) for _ in range(5)]
        await until_running(patient.calls, 5)
        with pytest.raises(grpc.aio.AioRpcError, match=r"too many calls: 2 run and 3 wait\. Try again later") as refused:
            await stub.Recognize(QUESTION)
        assert refused.value.code() == Code.RESOURCE_EXHAUSTED
        calls.pop().cancel()
        await until_running(patient.calls, 4)
        calls.append(stub.Recognize(QUESTION))
        await until_running(patient.calls, 5)
        patient.let.set()
        assert await asyncio.gather(*calls) == [speech_pb2.RecognizeResponse()] * 5


@in_loop
async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.1)
    async with serving(1) as (patient, _, stub):
        first = stub.Recognize(QUESTION)
        await until_running(patient.calls, 1)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match=r"too many calls: 1 run, and none has ended within 0.1 s") as refused:
                await stub.Recognize(QUESTION)
            assert refused.value.code() == Code.RESOURCE_EXHAUSTED
        patient.let.set()
        await first
        assert await stub.Recognize(QUESTION) == speech_pb2.RecognizeResponse()


@pytest.mark.parametrize(
    ("failure", "code", "details"),
    [
        (CallError(Code.NOT_FOUND, "not here"), Code.NOT_FOUND, "not here"),
        (BusyError("busy"), Code.RESOURCE_EXHAUSTED, "busy"),
        (QuotaError("full"), Code.RESOURCE_EXHAUSTED, "full"),
        (JournalError("locked"), Code.UNAVAILABLE, "locked"),
        (TimeoutError("late"), Code.DEADLINE_EXCEEDED, "late"),
        (ZeroDivisionError("secret"), Code.INTERNAL, "the server failed. See its log"),
    ],
)
@in_loop
async def test_what_a_handler_raises_becomes_a_status(
    failure: Exception, code: grpc.StatusCode, details: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(1) as (patient, _, stub):
        patient.failure = failure
        for _ in range(2):  # the first gives its turn back
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stub.GetModel(speech_pb2.GetModelRequest())
            assert (ended.value.code(), ended.value.details()) == (code, details)
        assert patient.calls.running == 0
    logged = [(record.message, record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == ([("GetModel failed", failure)] * 2 if code is Code.INTERNAL else [])


@in_loop
async def test_bytes_that_are_no_message_are_refused() -> None:
    async with connected(1) as (_, _, channel):
        for kind, method in ((channel.unary_unary, "Recognize"), (channel.unary_stream, "RecognizeLong")):
            call = kind(f"/windtunnel.speech.v1.Speech/{method}")(b"\xff")
            assert await call.code() == Code.INVALID_ARGUMENT
            assert "is not a valid message of this method" in await call.details()


@in_loop
async def test_a_method_that_is_not_there_is_unimplemented() -> None:
    async with connected(1) as (_, _, channel):
        assert await channel.unary_unary("/windtunnel.speech.v1.Speech/Sing")(b"").code() == Code.UNIMPLEMENTED


@in_loop
async def test_health_needs_no_token_and_no_turn() -> None:
    async with connected(1, tokens={}) as (patient, _, channel):
        patient.calls.opened.clear()
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        patient.calls.opened.set()
        assert await SpeechStub(channel).Recognize(QUESTION).code() == Code.UNAUTHENTICATED
