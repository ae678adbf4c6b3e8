"""The HTTP server under the REST API: uvicorn, with what ApacheBench and slow clients need of a server."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from http import HTTPStatus

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.tfserving.embedded.rest import Application

KEEP_ALIVE_SECONDS = 60  # for which a connection may wait for its next request
HEAD_SECONDS = 10.0  # for which a client may send nothing before or within the head of a request
MAX_HEAD_BYTES = 64 * 2**10

_UPGRADE = re.compile(rb"\r\nUpgrade(?=:)", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """A connection. Over uvicorn's: `Connection: keep-alive` for HTTP/1.0, bounds on a request's head, and errors in JSON.

    The parser would take what follows an `Upgrade` for another protocol and drop the body; curl --http2 and Java's client offer one
    with every request. There is none here, so the header goes by another name, of the same length.
    """

    _head_bytes = 0
    _in_head = True
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and wait no longer than allowed for the rest of a head."""
        last = data.rfind(b"\r") + len(b"\r\nUpgrade:")  # a header stands after a line's end, of which a body of numbers has none
        if not self._in_body and data.find(b"pgrade:", 0, last) >= 0:
            data = _UPGRADE.sub(b"\r\nIgnored", data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request's head has more than {MAX_HEAD_BYTES:,} bytes")
        else:
            self._expect_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """A head is complete: the application starts."""
        super().on_headers_complete()
        self._in_head, self._head_bytes, self._in_body = False, 0, True
        if self.scope["http_version"] == "1.0" and self.parser.should_keep_alive():
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_message_complete(self) -> None:
        """A request is complete."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _expect_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        body = orjson.dumps({"error": message})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class RestServer(uvicorn.Server):
    """Serves an application on the running loop, in `serve()`, until `should_exit` is set. Signals are the program's affair."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Prepare; `serve()` opens the port."""
        config = uvicorn.Config(
            application,  # type: ignore[arg-type]
            host=host,
            port=port,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
