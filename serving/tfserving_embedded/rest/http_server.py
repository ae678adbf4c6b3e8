"""The HTTP server of the REST API: uvicorn, adapted for ApacheBench and slow clients."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from http import HTTPStatus

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.tfserving_embedded.rest.api import Application

KEEP_ALIVE_SECONDS = 60  # how long a connection may wait for its next request
HEAD_SECONDS = 10.0  # how long the head of a request may take, from the connection or its first byte on, however often a part of it comes
MAX_HEAD_BYTES = 64 * 2**10

_UPGRADE = re.compile(rb"\r\nUpgrade(?=:)", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """A connection. It adds to uvicorn's: `Connection: keep-alive` for HTTP/1.0, limits on a request's head, and errors in JSON.

    The parser would treat what follows an `Upgrade` header as another protocol and drop the body; curl --http2 and Java's client send one
    with every request. No upgrade is supported here, so the header is renamed to another name of the same length.
    """

    _head_bytes = 0
    _head_due: float | None = None  # by the loop's clock; None while no head is expected
    _in_head = True
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Process received data, and limit how long the rest of a head may take."""
        last = data.rfind(b"\r") + len(b"\r\nUpgrade:")  # a header follows a line's end, which a body of numbers does not contain
        if not self._in_body and data.find(b"pgrade:", 0, last) >= 0:
            data = _UPGRADE.sub(b"\r\nIgnored", data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request's head has more than {MAX_HEAD_BYTES:,} bytes")
        else:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Handle the beginning of a head."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Handle the end of a head: start the application."""
        super().on_headers_complete()
        self._in_head, self._head_bytes, self._head_due, self._in_body = False, 0, None, True
        if self.scope["http_version"] == "1.0" and self.parser.should_keep_alive():
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_message_complete(self) -> None:
        """Handle the end of a request."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Reject data that is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _expect_head(self) -> None:
        """Wait for the rest of a head; also for its beginning, if only empty lines or the rest of an answered request have come."""
        if self.cycle is not None and not self.cycle.response_complete:
            return
        self._head_due = self._head_due or self.loop.time() + HEAD_SECONDS
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(self._head_due, self.timeout_keep_alive_handler)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        body = orjson.dumps({"error": message})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class RestServer(uvicorn.Server):
    """Serves an application on the running loop, in `serve()`, until `should_exit` is set. It does not handle signals."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Prepare the server; `serve()` opens the port."""
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
        """Do not handle signals."""
        yield
