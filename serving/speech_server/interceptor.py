"""The gRPC interceptor of all calls: token, limit of concurrent calls, status, metrics and graceful shutdown."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from serving.speech_server.access import Access, Context
from serving.speech_server.metrics import Metrics
from serving.speech_server.status import CallError, Code, status_of
from serving.speech_server.turns import Turns

_log = logging.getLogger(__name__)

LINGER_SECONDS = 1.0
"""How long calls are still served after shutdown has begun, so that calls in transit arrive and health checks notice it."""

QUIET_SECONDS = 0.2
"""After this time without a new call, every client is waiting for an answer."""

DRAIN_SECONDS = 8.0
"""Timeout for answering calls during shutdown. Container engines kill after 10 s."""

POLL_SECONDS = 0.02
ENDING = "the server is shutting down. Try again: it may restart, or another may take over"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls, maps exceptions of their handlers to a status, and counts them.

    gRPC's own services, health and reflection, are not affected: they answer without a token, even when the limit is reached.
    """

    def __init__(self, limit: int, access: Access, metrics: Metrics) -> None:
        """Admit `limit` concurrent calls, of all methods together; further calls wait."""
        self._turns, self._access, self._metrics = Turns(limit), access, metrics
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self.running = 0  # unanswered calls, including those that wait
        self.opened = asyncio.Event()  # new calls wait for this
        self.opened.set()
        self._newest = 0.0  # time of the latest call, by the loop's clock
        self._ended = False  # whether unanswered calls end as UNAVAILABLE
        self._cancellable: set[asyncio.Task[Any]] = set()
        metrics.running.set_function(lambda: self.running)

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of a method, once: doing it at each call would cost 4 % of the throughput."""
        if details.method in self._handlers:
            return self._handlers[details.method]
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        self._handlers[details.method] = self._wrap(details.method.rpartition("/")[2], handler)
        return self._handlers[details.method]

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Return a handler that runs another one as a call.

        It parses the request itself, so that an invalid message ends the call with a status of its own.
        """

        async def unary(request: bytes, context: Context) -> Any:
            async with self._call(method, context):
                return await handler.unary_unary(handler.request_deserializer(request), context)

        async def stream(request: bytes, context: Context) -> AsyncIterator[Any]:
            async with self._call(method, context) as task:
                self._cancellable.discard(task)  # the task may be sending; if cancelled there, gRPC sends no status
                async for response in handler.unary_stream(handler.request_deserializer(request), context):
                    yield response
                    if self._ended:
                        raise CallError(Code.UNAVAILABLE, ENDING)

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(unary, response_serializer=handler.response_serializer)

    @asynccontextmanager
    async def _call(self, method: str, context: Context) -> AsyncIterator[asyncio.Task[Any]]:
        """Admit a call, end it with a status if it fails, and count it in either case. Yields the task that it runs in."""
        start, task = time.perf_counter(), asyncio.current_task()
        assert task is not None
        code, message = Code.CANCELLED, ""
        self.running += 1
        self._newest = asyncio.get_running_loop().time()
        self._cancellable.add(task)
        try:
            await self.opened.wait()
            self._access.check(context)
            async with self._turns:
                yield task
            code = Code.OK
        except asyncio.CancelledError:
            if not self._ended:  # the client has gone
                raise
            code, message = Code.UNAVAILABLE, ENDING
        except Exception as error:
            code, message = status_of(error)
            if code is Code.INTERNAL:
                _log.exception("%s failed", method)
        finally:
            self._cancellable.discard(task)
            self.running -= 1
            self._metrics.requests(method, code.name).inc()
            self._metrics.seconds(method).observe(time.perf_counter() - start)
        if code is not Code.OK:
            await context.abort(code, message)

    async def drain(self, server: grpc.aio.Server) -> None:
        """Stop a server without losing a call: all received calls are answered, and those that take too long end as UNAVAILABLE.

        gRPC itself ends calls that it has received but not yet dispatched as CANCELLED, which clients do not retry. So it is stopped while
        no call is in transit: new calls are held back until all clients wait. With their answers, clients learn about the shutdown.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        await asyncio.sleep(LINGER_SECONDS)
        self.opened.clear()
        latest = loop.time() + LINGER_SECONDS
        while loop.time() < min(self._newest + QUIET_SECONDS, latest):
            await asyncio.sleep(POLL_SECONDS)
        stopping = asyncio.ensure_future(server.stop(2 * DRAIN_SECONDS))
        await asyncio.sleep(QUIET_SECONDS)
        self.opened.set()
        while not stopping.done() and (self.running or loop.time() < self._newest + LINGER_SECONDS) and loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        self._ended = True
        for task in self._cancellable:
            task.cancel()
        if self.running:
            await asyncio.wait([stopping], timeout=LINGER_SECONDS)
        await server.stop(None)  # also ends gRPC's own calls, such as health watches
        await stopping
