"""What holds for every call, on a real gRPC server whose methods answer when the test lets them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from serving.speech import calls as module
from serving.speech.calls import Calls, Code, Context, handler, streaming, unary
from serving.speech.metrics import Metrics
from serving.speech.protos import speech_pb2
from serving.speech.protos.speech_pb2_grpc import SpeechStub
from tests.serving.speech.running_speech import DIRECT, in_loop

QUESTION = speech_pb2.RecognizeRequest()
RECORDING = speech_pb2.RecognizeLongRequest()


@dataclass
class Patient:
    """Answers Recognize when it is let, and RecognizeLong for ever."""

    calls: Calls
    let: asyncio.Event = field(default_factory=asyncio.Event)

    @unary
    async def Recognize(self, request: speech_pb2.RecognizeRequest, context: Context) -> speech_pb2.RecognizeResponse:
        await self.let.wait()
        return speech_pb2.RecognizeResponse()

    @streaming
    async def RecognizeLong(self, request: speech_pb2.RecognizeLongRequest, context: Context) -> AsyncIterator[speech_pb2.Segment]:
        while True:
            yield speech_pb2.Segment()
            await asyncio.sleep(0.01)

    def __getattr__(self, name: str) -> object:
        """The other methods, which nobody calls."""
        return self.Recognize


@asynccontextmanager
async def serving(limit: int) -> AsyncIterator[tuple[Patient, grpc.aio.Server, SpeechStub]]:
    patient = Patient(Calls(limit, None, Metrics()))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([handler(speech_pb2.DESCRIPTOR.services_by_name["Speech"], patient, {})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
            yield patient, server, SpeechStub(channel)
    finally:
        await server.stop(None)


async def until_running(calls: Calls, number: int) -> None:
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
    monkeypatch.setattr(module, "WAITING", 3)
    async with serving(2) as (patient, _, stub):
        calls = [stub.Recognize(QUESTION) for _ in range(5)]
        await until_running(patient.calls, 5)
        with pytest.raises(grpc.aio.AioRpcError, match="2 calls run and 3 wait, as many as may: try again later") as refused:
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
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    async with serving(1) as (patient, _, stub):
        first = stub.Recognize(QUESTION)
        await until_running(patient.calls, 1)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match=r"1 calls run, as many as may, and none has ended for 0.1 s") as refused:
                await stub.Recognize(QUESTION)
            assert refused.value.code() == Code.RESOURCE_EXHAUSTED
        patient.let.set()
        await first
        assert await stub.Recognize(QUESTION) == speech_pb2.RecognizeResponse()
