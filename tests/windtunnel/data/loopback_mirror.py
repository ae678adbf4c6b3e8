import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.waiting import PATIENCE


@dataclass
class Request:
    path: str
    range: str | None
    sent: int = 0


@dataclass
class Mirror:
    """A web server on loopback, and how it shall misbehave."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # each of the next answers breaks off after so many bytes
    knows_ranges: bool = True
    endless: bool = False
    stall_after: int | None = None  # go quiet after so many bytes, until `resume`
    resume: threading.Event = field(default_factory=threading.Event)

    def publish(self, files: dict[str, bytes]) -> None:
        self.files = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler.path, handler.headers.get("Range"))
        self.requests.append(request)
        body = self.files.get(handler.path)
        if body is None:
            return handler.send_error(404)
        start = int(request.range.removeprefix("bytes=").removesuffix("-")) if request.range and self.knows_ranges else 0
        if start and start >= len(body):
            return handler.send_error(416)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if not self.endless:
            handler.send_header("Content-Length", str(len(body) - start))
        handler.send_header("Connection", "close")
        handler.end_headers()
        self._send(handler, request, body[start:])

    def _send(self, handler: BaseHTTPRequestHandler, request: Request, body: bytes) -> None:
        end = self.cuts.pop(0) if self.cuts else self.stall_after or len(body)
        handler.wfile.write(body[:end])
        request.sent = len(body[:end])
        while self.endless:
            handler.wfile.write(bytes(2**20))
            request.sent += 2**20
        if self.stall_after:
            self.resume.wait(PATIENCE)
