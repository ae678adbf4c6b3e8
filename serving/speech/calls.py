"""What holds for every call: who may make it, how many at a time, the status it ends with, and what is counted."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving.speech.access import Tokens, address, bearer
from serving.speech.batching import BusyError
from serving.speech.journal import JournalError, QuotaError
from serving.speech.metrics import Metrics
from windtunnel.errors import WindtunnelError

_log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext
Code = grpc.StatusCode

WAITING = 100
"""So many calls, of 64 kB each, wait for their turn where as many run as may; more are refused at once."""

WAIT_SECONDS = 5.0
"""How long they do: it takes a hundredth of that, unless all that run are long."""

LINGER_SECONDS = 1.0
"""How long everything is served as before when the end has begun: for calls on their way, and for who looks at the health."""

QUIET_SECONDS = 0.2
"""After so long without a new call, those who wait for an answer before they ask again are all waiting."""

DRAIN_SECONDS = 8.0
"""When the end has begun, so long at most until every call has its answer: container engines kill after 10 s."""

POLL_SECONDS = 0.02
ENDING = "the server ends: ask again, it may be back, or another be there"


class CallError(WindtunnelError):
    """A call that ends with a status and a sentence."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Calls:
    """The calls that run, of all services together."""

    def __init__(self, limit: int, tokens: Tokens | None, metrics: Metrics) -> None:
        """Begin.

        Args:
            limit: how many may run at a time. As many more as `WAITING` wait for a while before they are refused.
            tokens: whose calls are answered; None: everybody's.
            metrics: where calls are counted.
        """
        self.tokens, self.metrics = tokens, metrics
        self.running = 0  # or waiting
        self.came = 0.0  # when the newest call did, on the loop's clock
        self.opened = asyncio.Event()  # new calls wait for it
        self.opened.set()
        self._limit, self._turns, self._waiting = limit, asyncio.Semaphore(limit), 0
        self.over = False  # whether calls end before they are answered
        self.tasks: set[asyncio.Task[Any]] = set()  # those that can be ended wherever they are
        metrics.running.set_function(lambda: self.running)

    def peer(self, context: Context) -> str:
        """Who calls.

        Raises:
            CallError: tokens are used, and the call shows none of them.
        """
        if self.tokens is None:
            return address(context.peer())
        name = bearer(context, self.tokens)
        if name is None:
            raise CallError(Code.UNAUTHENTICATED, "the token is missing or unknown: send the metadata `authorization: Bearer TOKEN`")
        return name

    async def take_turn(self) -> None:
        """Wait until fewer calls run than may; `end_turn` has to follow.

        Raises:
            CallError: too many wait already, or the wait was too long.
        """
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        if self._waiting >= WAITING:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"{self._limit} calls run and {WAITING} wait, as many as may: try again later")
        self._waiting += 1
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_SECONDS)
        except TimeoutError:
            found = f"{self._limit} calls run, as many as may, and none has ended for {WAIT_SECONDS:g} s"
            raise CallError(Code.RESOURCE_EXHAUSTED, f"{found}: try again later") from None
        finally:
            self._waiting -= 1

    def end_turn(self) -> None:
        """Let the next call run."""
        self._turns.release()

    async def drain(self, server: grpc.aio.Server) -> None:
        """Stop a server so that no call is lost: what has been received is answered, and what takes too long ends with UNAVAILABLE.

        gRPC by itself ends what it has received but not handed on yet as CANCELLED, which clients do not try again. So it is told to
        stop while nothing is on its way: new calls are held back until all clients wait. By their answers they know of the end.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        await asyncio.sleep(LINGER_SECONDS)
        self.opened.clear()
        latest = loop.time() + LINGER_SECONDS
        while loop.time() < min(self.came + QUIET_SECONDS, latest):
            await asyncio.sleep(POLL_SECONDS)
        stopping = asyncio.ensure_future(server.stop(2 * DRAIN_SECONDS))
        await asyncio.sleep(QUIET_SECONDS)
        self.opened.set()
        while not stopping.done() and (self.running or loop.time() < self.came + LINGER_SECONDS) and loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        self.over = True
        for task in self.tasks:
            task.cancel()
        if self.running:
            await asyncio.wait([stopping], timeout=LINGER_SECONDS)
        await server.stop(None)  # also what is no call of ours, such as those who watch the health
        await stopping


class _Call:
    """One call, from its admission to its status."""

    __slots__ = ("_calls", "_context", "_has_turn", "_method", "_start", "_streams", "_task")

    def __init__(self, calls: Calls, method: str, context: Context, streams: bool) -> None:
        self._calls, self._method, self._context, self._streams = calls, method, context, streams
        self._has_turn = False

    async def __aenter__(self) -> None:
        self._start = time.perf_counter()
        self._calls.running += 1
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._calls.tasks.add(task)
        self._calls.came = asyncio.get_running_loop().time()
        try:
            if not self._calls.opened.is_set():
                await self._calls.opened.wait()
            if self._calls.tokens is not None:
                self._calls.peer(self._context)
            await self._calls.take_turn()
            self._has_turn = True
            if self._streams:
                self._calls.tasks.discard(task)  # gRPC sends in it, and would not end it with a status
        except BaseException as error:
            await self._end(error)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        """Count the call; raises gRPC's own error where it has failed."""
        self._calls.running -= 1
        if self._has_turn:
            self._calls.end_turn()
        self._calls.tasks.discard(self._task)
        if self._calls.over and isinstance(error, asyncio.CancelledError):
            error = CallError(Code.UNAVAILABLE, ENDING)
        code, message = _status(error)
        self._calls.metrics.requests(self._method, code.name).inc()
        self._calls.metrics.seconds(self._method).observe(time.perf_counter() - self._start)
        if code is Code.INTERNAL:
            _log.error("%s failed", self._method, exc_info=error)
        if error is not None and code is not Code.CANCELLED:
            await self._context.abort(code, message)


def _status(error: BaseException | None) -> tuple[grpc.StatusCode, str]:
    match error:
        case None:
            return Code.OK, ""
        case CallError():
            return error.code, str(error)
        case BusyError() | QuotaError():
            return Code.RESOURCE_EXHAUSTED, str(error)
        case JournalError():
            return Code.UNAVAILABLE, str(error)
        case TimeoutError():
            return Code.DEADLINE_EXCEEDED, str(error)
        case Exception():
            return Code.INTERNAL, "the server has failed: its log says why"
        case _:
            return Code.CANCELLED, ""  # asyncio's, and what ends a generator


def _reader(kind: type[Message], take: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    """What gRPC calls with the bytes of a request. It returns errors, for the call to raise: gRPC would answer UNKNOWN, and log each."""

    def read(content: bytes) -> Any:
        try:
            return take(kind.FromString(content))
        except DecodeError:
            return CallError(Code.INVALID_ARGUMENT, "the bytes of the request are no message of this method: send what its .proto says")
        except CallError as error:
            return error

    return read


def _whole(message: Message) -> Message:
    return message


def _check(request: Any) -> None:
    if isinstance(request, CallError):
        raise request


def handler(service: ServiceDescriptor, servicer: Any, takes: Mapping[str, Callable[[Any], Any]]) -> grpc.GenericRpcHandler:
    """What serves a service, its methods being calls.

    Args:
        service: its methods.
        servicer: has a coroutine for each.
        takes: by method, what it takes of a request; by default all. That is kept until it has answered: a clip, but not its message too.
    """
    methods = {}
    for method in service.methods:
        kind = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        reader = _reader(GetMessageClass(method.input_type), takes.get(method.name, _whole))
        methods[method.name] = kind(getattr(servicer, method.name), reader, GetMessageClass(method.output_type).SerializeToString)
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def unary(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A method with one answer as a call; its object has `calls`."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Context) -> Any:
        async with _Call(self.calls, method.__name__, context, streams=False):
            _check(request)
            return await method(self, request, context)

    return answer


def streaming(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """A method with a stream of answers as a call; its object has `calls`."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Context) -> AsyncIterator[Any]:
        async with _Call(self.calls, method.__name__, context, streams=True):
            _check(request)
            async for part in method(self, request, context):
                yield part
                if self.calls.over:
                    raise CallError(Code.UNAVAILABLE, ENDING)

    return answer
