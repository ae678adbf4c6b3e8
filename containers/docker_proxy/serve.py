"""The proxy before the engine's socket: passes on what `policy.py` allows, and answers 403 to everything else.

    python -m containers.docker_proxy.serve

Environment: WINDTUNNEL_IMAGES, the prefix of the images; WINDTUNNEL_DOCKER_PROJECT, the compose project; WINDTUNNEL_DATA, the folder of
data sets on the host, if there is one.

A connection carries one request. It is read to its end, judged, and written to the engine anew, on a connection of its own; from then
on bytes go one way only, from the engine to the client. So there is no second request to smuggle.
"""

import asyncio
import json
import os
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from http import HTTPStatus

import h11

from containers.docker_proxy.judge import Judge, Refused, Request
from containers.docker_proxy.policy import Project

PORT = 2375
ENGINE = "/var/run/docker.sock"
CONNECTIONS = 256
BODY_BYTES = 65536  # of a request to create something: the words of its command, and its environment
REQUEST_SECONDS = 10  # to arrive in; the answer may take days
LINGER_SECONDS = 2
PIECE = 65536

Streams = tuple[StreamReader, StreamWriter]


async def serve(judge: Judge, engine: str, host: str, port: int) -> asyncio.Server:
    """Start to listen; `engine` is the path of its socket."""
    slots = asyncio.Semaphore(CONNECTIONS)

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices a client whose machine is gone
        with suppress(ConnectionError):
            async with slots:
                await _answer(judge, engine, (reader, writer))
        writer.close()

    return await asyncio.start_server(connected, host, port)


async def _answer(judge: Judge, engine: str, client: Streams) -> None:
    """Answer the one request of a connection."""
    asked = "a request"
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            if not (request := await _read(client[0])):
                return
        asked = f"{request.method} {request.target}"
        allowed = judge.judge(request)
        streams = await asyncio.open_unix_connection(engine)
    except TimeoutError:
        await _refuse(client, asked, 408, f"did not get a whole request within {REQUEST_SECONDS} s")
    except h11.RemoteProtocolError as error:
        await _refuse(client, asked, 400, f"cannot read this request: {error}")
    except Refused as error:
        await _refuse(client, asked, 403, f"{error}, see containers/docker_proxy/policy.py")
    except OSError as error:
        await _refuse(client, asked, 502, f"finds no engine at {engine}: {error}")
    else:
        await _forward(allowed, streams, client)


async def _read(reader: StreamReader) -> Request | None:
    """The client's request; None if the connection ends before one.

    Raises:
        Refused: its body is too long, or of unknown length.
        h11.RemoteProtocolError: it is not HTTP.
    """
    connection = h11.Connection(h11.SERVER)
    method, target, body = "", "", bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(PIECE))
            case h11.Request() as head:
                method, target = head.method.decode("ascii"), head.target.decode("ascii")
                if any(name == b"transfer-encoding" for name, _ in head.headers):
                    raise Refused("refuses a body of unknown length")
            case h11.Data(data=piece):
                body += piece
                if len(body) > BODY_BYTES:
                    raise Refused(f"refuses a body longer than {BODY_BYTES} bytes")
            case h11.EndOfMessage():
                return Request(method, target, bytes(body))
            case _:
                return None


async def _forward(request: Request, engine: Streams, client: Streams) -> None:
    """Ask the engine, and pass its answer on as it comes, until it ends or the client has gone."""
    from_engine, to_engine = engine
    from_client, to_client = client
    lines = [
        f"{request.method} {request.target} HTTP/1.1",
        "Host: docker",
        *(["Connection: Upgrade", "Upgrade: tcp"] if request.upgrade else ["Connection: close"]),
        *(["Content-Type: application/json"] if request.body else []),
        f"Content-Length: {len(request.body)}",
    ]
    to_engine.write("\r\n".join([*lines, "", ""]).encode("ascii") + request.body)
    tasks = [asyncio.create_task(_copy(from_engine, to_client)), asyncio.create_task(_discard(from_client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        to_engine.close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()


async def _discard(reader: StreamReader) -> None:
    while await reader.read(PIECE):
        pass


async def _refuse(client: Streams, asked: str, status: int, why: str) -> None:
    """Answer in place of the engine, and log it."""
    print(status, json.dumps(asked), json.dumps(why), flush=True)
    reader, writer = client
    body = json.dumps({"message": f"docker-proxy {why}"})
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    writer.write("\r\n".join([*lines, "", body]).encode("ascii"))
    await writer.drain()
    # A connection closed with bytes unread is reset, and the client may lose the answer.
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await _discard(reader)


async def main() -> None:
    """Serve until the process is ended."""
    project = Project(
        name=os.environ["WINDTUNNEL_DOCKER_PROJECT"],
        images=os.environ["WINDTUNNEL_IMAGES"],
        data=os.environ["WINDTUNNEL_DATA"],
    )
    server = await serve(Judge(project), ENGINE, "0.0.0.0", PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
