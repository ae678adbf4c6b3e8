"""Bodies of requests within limits: a body that is too large is rejected before it is read, and never held in memory.

Six pictures of 224 x 224 pixels in three colours take 17 MB as JSON. The real server has no limit; here, Python needs up to 20 times the
memory of a body to parse it, so large bodies are read one at a time.
"""

import asyncio
import ctypes
import zlib
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeVar

MAX_BYTES = 256 * 2**20  # limit of a body, also after decompression: 90 such pictures
LARGE_BYTES = 16 * 2**20  # limit of a body that needs no turn
LARGE_SECONDS = 60.0  # timeout of a large body, because others wait for its turn to end
IDLE_SECONDS = 10.0  # how long a client may send nothing in the middle of a body
LINGER_SECONDS = 2.0  # how long the rest of a rejected body is discarded: closing at once would lose the answer in transit

Receive = Callable[[], Awaitable[dict[str, Any]]]
Result = TypeVar("Result")


class HttpError(Exception):
    """An error for which HTTP has a status but gRPC has no code.

    Attributes:
        status: the status of the answer.
        message: the message for the client.
        unread: whether the request's body has not been read completely.
    """

    def __init__(self, status: HTTPStatus, message: str, unread: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.unread = unread


class Disconnected(Exception):
    """The client disconnected in the middle of its request."""


class Turn:
    """A request's turn to have a large body; not needed while its body is small."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._since: float | None = None

    async def take(self) -> None:
        """Wait for the turn, and keep it until `end`.

        Raises:
            HttpError: the turn has lasted too long.
        """
        now = asyncio.get_running_loop().time
        if self._since is None:
            await self._lock.acquire()
            self._since = now()
        if now() - self._since > LARGE_SECONDS:
            message = f"The request's body has more than {LARGE_BYTES:,} bytes, and the rest did not come within {LARGE_SECONDS:g} s"
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, message, unread=True)

    async def work(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function, on a thread if the body is large, so that small requests are answered in the meantime."""
        return function(*arguments) if self._since is None else await asyncio.to_thread(function, *arguments)

    def end(self) -> None:
        """Give up the turn, and return memory to the system: glibc would keep hundreds of megabytes for the next large body."""
        if self._since is not None:
            self._lock.release()
            asyncio.get_running_loop().call_soon(ctypes.CDLL(None).malloc_trim, 0)  # later: an exception in flight still holds the body


async def read(headers: Iterable[tuple[bytes, bytes]], receive: Receive, turn: Turn) -> bytes:
    """Read and decompress a request's body.

    Args:
        headers: the request's headers, names in lower case.
        receive: ASGI's callable.
        turn: the request's turn; taken if the body is large.

    Raises:
        HttpError: it is too large or too slow, or is not what `Content-Encoding` says.
        Disconnected: the client has disconnected.
    """
    encoding = b""
    for name, value in headers:
        if name == b"content-length" and int(value) > MAX_BYTES:
            raise _too_large(f"{int(value):,} bytes", unread=True)
        if name == b"content-encoding":
            encoding = value.strip().lower()
    if encoding not in (b"", b"identity", b"gzip"):
        message = f"Content-Encoding {encoding.decode('latin-1')} is not supported: expected gzip, or none"
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    body, more = await _chunk(receive)
    if more:
        body = await _rest(body, receive, turn)
    return await _uncompressed(body, turn) if encoding == b"gzip" else body


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message["body"], message["more_body"]


async def _rest(first: bytes, receive: Receive, turn: Turn) -> bytes:
    body, more = bytearray(first), True
    while more:
        if len(body) > LARGE_BYTES:
            await turn.take()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk, more = await _chunk(receive)
        except TimeoutError:
            message = f"No more of the request's body arrived for {IDLE_SECONDS:g} s, after {len(body):,} bytes"
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, message, unread=True) from None
        body += chunk
        if len(body) > MAX_BYTES:
            raise _too_large("more", unread=more)
    return bytes(body)


async def _uncompressed(body: bytes, turn: Turn) -> bytes:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = decompressor.decompress(body, LARGE_BYTES)
        if len(text) == LARGE_BYTES:
            await turn.take()
            text += await turn.work(decompressor.decompress, decompressor.unconsumed_tail, MAX_BYTES - LARGE_BYTES + 1)
    except zlib.error as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"Failed to uncompress the gzipped body: {error}") from None
    if len(text) > MAX_BYTES:
        raise _too_large("more after decompression", unread=False)
    if not decompressor.eof or decompressor.unused_data:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Failed to uncompress the gzipped body: it is truncated, or has trailing data")
    return text


def _too_large(found: str, unread: bool) -> HttpError:
    message = f"The request's body is too large: found {found}, expected at most {MAX_BYTES:,} bytes. Send fewer instances at a time"
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, unread)


async def discard(receive: Receive) -> None:
    """Discard the rest of a body that is still arriving, for a short time."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
