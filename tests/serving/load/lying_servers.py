"""Small servers that do what no real one does: give wrong answers with success, or fall silent for a while."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from windtunnel.platform.ports import free_ports

Answer = Callable[[int], tuple[int, bytes]]
"""The status and the body of the answer to a request, by the request's number."""

METHOD = "/test.Service/Ask"


def label(number: int) -> tuple[int, bytes]:
    """What an honest one answers: the label 7."""
    return 200, json.dumps({"label": 7, "is": "what the trainer says of the only image"}).encode()


@contextmanager
def http_server(answer: Answer, length: bool = True, seen: Callable[[bytes], None] = lambda body: None) -> Iterator[str]:
    """Its URL; without `length` it does not say how long its answers are. `seen` gets the body of each request."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(next(numbers))
            self.send_response(status)
            if length:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "keep-alive" if length else "close")
            self.close_connection = not length
            self._headers_buffer.append(b"\r\n" + body)  # in one piece with the header, as TorchServe has it
            self.flush_headers()

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # of five, an open loop has one reset on a busy machine

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_server(answer: Answer) -> Iterator[str]:
    """Its address; a status other than 200 is gRPC's UNAVAILABLE."""
    numbers = iter(range(1_000_000))

    def ask(request: bytes, context: grpc.ServicerContext) -> bytes:
        status, body = answer(next(numbers))
        if status != 200:
            context.abort(grpc.StatusCode.UNAVAILABLE, body.decode())
        return body

    server = grpc.server(ThreadPoolExecutor(8))
    service, method = METHOD[1:].split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(ask)})])
    (port,) = free_ports(1)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def stalling(seconds: float) -> Answer:
    """Answers nobody for a while, which begins a second after the first request: everybody who asks waits until its end."""
    start = cache(lambda: time.monotonic() + 1)

    def answer(number: int) -> tuple[int, bytes]:
        if start() <= (now := time.monotonic()) < start() + seconds:
            time.sleep(start() + seconds - now)
        return label(number)

    return answer
