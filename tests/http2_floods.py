"""What no client library sends to a gRPC server: HTTP/2 frame by frame (RFC 9113)."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import psutil

from tests.waiting import PATIENCE, wait_for

DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_HEADERS = 4
FRAMES = 5000
MEMORY = 256 * 2**20
"""What a server may keep of a flood: floods that are kept whole have more."""
CANCEL = struct.pack(">I", 8)
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header field, literal and not indexed (RFC 7541, 6.2.2); both parts have less than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call(method: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header fields of a gRPC call."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", method.encode()), (b":authority", b"x"), (b"te", b"trailers")]
    return b"".join(field(name, value) for name, value in (*fields, (b"content-type", b"application/grpc"), *more))


def message(size: int) -> bytes:
    """The beginning of a gRPC message that declares a size."""
    return b"\0" + struct.pack(">I", size)


def connect(port: int) -> socket.socket:
    """A connection that has greeted the server."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    stream.sendall(GREETING + frame(SETTINGS))
    return stream


def rapid_reset(method: str) -> Iterator[bytes]:
    """Calls that are cancelled at once."""
    for number in range(1, 4 * FRAMES, 2):
        yield frame(HEADERS, END_HEADERS, number, call(method)) + frame(RST_STREAM, 0, number, CANCEL)


def continuation(method: str) -> Iterator[bytes]:
    """A header without end: 70 MB."""
    yield frame(HEADERS, 0, 1, call(method))
    yield from [frame(CONTINUATION, 0, 1, field(b"x", b"y" * 100) * 130)] * FRAMES


def empty_continuation(method: str) -> Iterator[bytes]:
    """A header without end, of nothing."""
    yield frame(HEADERS, 0, 1, call(method))
    yield from [frame(CONTINUATION, 0, 1)] * 10 * FRAMES


def pings(method: str) -> Iterator[bytes]:
    """Pings whose answers nobody reads."""
    yield from [frame(PING, 0, 0, bytes(8))] * 10 * FRAMES


def settings(method: str) -> Iterator[bytes]:
    """Settings whose acknowledgements nobody reads."""
    yield from [frame(SETTINGS)] * 10 * FRAMES


def many_fields(method: str) -> Iterator[bytes]:
    """Calls with 10,000 metadata entries."""
    block = call(method) + b"".join(field(b"k%d" % number, b"v" * 20) for number in range(10_000))
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    for number in range(1, 41, 2):
        yield frame(HEADERS, 0, number, parts[0])
        yield from (frame(CONTINUATION, 0, number, part) for part in parts[1:-1])
        yield frame(CONTINUATION, END_HEADERS, number, parts[-1])


def large_messages(method: str) -> Iterator[bytes]:
    """Calls with the first bytes of messages of 1.9 GB."""
    for number in range(1, 41, 2):
        yield frame(HEADERS, END_HEADERS, number, call(method)) + frame(DATA, 0, number, message(1_900_000_000) + b"x" * 1000)


FLOODS = (rapid_reset, continuation, empty_continuation, pings, settings, many_fields, large_messages)


def survives(process: psutil.Process, port: int, frames: Iterator[bytes], ask: Callable[[], bool]) -> None:
    """A server answers others during and after a flood, and does not keep it; `ask` returns whether a call was answered."""
    before, sent = process.memory_info().rss, 0
    with connect(port) as stream:

        def flood() -> None:
            nonlocal sent
            with contextlib.suppress(OSError):  # the server may close the connection
                for part in frames:
                    stream.sendall(part)
                    sent += len(part)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            while thread.is_alive():
                wait_for(ask)
            wait_for(ask)  # while the connection is still open
            assert process.memory_info().rss < before + MEMORY
        finally:
            with contextlib.suppress(OSError):  # the server has closed it
                stream.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert sent, "this was no flood"  # how much of it a server takes before it closes the connection is for gRPC to say
    wait_for(ask)


def closes_what_does_not_greet(port: int, ask: Callable[[], bool]) -> None:
    """A server answers beside 200 connections that say nothing or a part of the greeting, and closes these in the end."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(200)]
        for stream in streams[::2]:
            stream.sendall(GREETING[:9])
        wait_for(ask)
        for stream in streams:
            with contextlib.suppress(ConnectionResetError):
                while stream.recv(1000):
                    pass
        wait_for(ask)
