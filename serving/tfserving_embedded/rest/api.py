"""TensorFlow Serving's REST API, an ASGI application.

https://www.tensorflow.org/tfx/serving/api_rest, tensorflow_serving/model_servers/http_rest_api_handler.cc
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import numpy as np
import orjson
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, input_pb2

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.core import Core, State
from serving.tfserving_embedded.rest import json_document, json_examples, json_predict, request_body
from serving.tfserving_embedded.rest.request_body import Disconnected, HttpError, Receive, Turn
from serving.tfserving_embedded.runtime.tensors import NUMPY
from serving.tfserving_embedded.serving_error import ServingError, failed_precondition, invalid_argument, not_found

Send = Callable[[dict[str, Any]], Awaitable[None]]

_TARGET = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_TARGET}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_TARGET}(?P<metadata>/metadata)?", re.IGNORECASE)
_USAGE = "GET /v1/models/NAME[/versions/N|/labels/L][/metadata], POST /v1/models/NAME[/versions/N|/labels/L]:predict|classify|regress"

_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""The HTTP status of each gRPC code, as in tensorflow_serving/model_servers/http_server.cc; 500 for all others."""

_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestOptions:
    """How REST is served; the fields are the command line's flags.

    Attributes:
        timeout_in_ms: timeout of a prediction; 0 for none.
        enable_cors_support: allow requests from pages of other origins.
        prometheus_path: the path of the metrics; None for no metrics.
    """

    timeout_in_ms: int = 30_000
    enable_cors_support: bool = False
    prometheus_path: str | None = metrics.PATH


class _Reply(NamedTuple):
    status: int
    body: bytes
    content_type: bytes = b"application/json"


class _Target(NamedTuple):
    """The parts of a path."""

    name: str
    version: int | None
    label: str | None


class Application:
    """The ASGI application. It must run on the core's event loop."""

    def __init__(self, core: Core, options: RestOptions) -> None:
        """Answer for a core."""
        self._core = core
        self._options = options
        self._timeout = options.timeout_in_ms / 1000 if options.timeout_in_ms > 0 else None
        self._headers = _CORS if options.enable_cors_support else []
        self._large = asyncio.Lock()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request of any kind."""
        unread = False
        try:
            reply = await self._answer(scope, receive)
        except ServingError as error:
            reply = _error(_STATUS.get(error.code, 500), error.message)
        except HttpError as error:
            reply = _error(error.status, error.message)
            unread = error.unread
        except Disconnected:
            return
        except Exception as error:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            reply = _error(500, f"Internal error: {type(error).__name__}. See the server's log")
        headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)), *self._headers]
        if unread:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": unread})
        if unread:
            await request_body.discard(receive)
            await send({"type": "http.response.body"})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> _Reply:
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        if path == self._options.prometheus_path:
            return _Reply(200, metrics.page(), b"text/plain")
        if not path.lower().startswith("/v1/"):
            raise not_found(f"There is nothing at {path}. Expected {_USAGE}")
        if method == "POST" and (match := _POST.fullmatch(path)):
            return await self._infer(_target(match), match["method"].lower(), scope, receive)
        if method in ("GET", "HEAD") and (match := _GET.fullmatch(path)):
            if match["name"] is None:
                raise invalid_argument("Missing model name in request.")
            return self._metadata(_target(match)) if match["metadata"] else self._status(_target(match))
        if method == "OPTIONS":
            if not any(name == b"origin" and re.search(rb"https?://", value) for name, value in scope["headers"]):
                raise failed_precondition("Origin header is missing in CORS preflight")
            return _Reply(200, b"")
        raise invalid_argument(f"Malformed request: {method} {path}. Expected {_USAGE}")

    async def _infer(self, target: _Target, method: str, scope: dict[str, Any], receive: Receive) -> _Reply:
        with metrics.request(target.name if self._core.knows(target.name) else "", method, "REST"):
            turn = Turn(self._large)
            try:
                answer = await self._understand(target, method, await request_body.read(scope["headers"], receive, turn), turn)
            finally:
                turn.end()
            try:
                async with asyncio.timeout(self._timeout):
                    return _Reply(200, await answer)
            except TimeoutError:
                message = f"Timed out: no answer within {self._options.timeout_in_ms} ms (--rest_api_timeout_in_ms)"
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from None

    async def _understand(self, target: _Target, method: str, body: bytes, turn: Turn) -> Coroutine[Any, Any, bytes]:
        """Parse a body; the returned coroutine answers it and holds no reference to the body."""
        document = await turn.work(json_document.read, body)
        signature_name = document.signature_name
        if method != "predict":
            examples = await turn.work(json_examples.examples, document)
            return (self._classify if method == "classify" else self._regress)(target, signature_name, examples)
        _, signature = self._core.signature(*target, signature_name)
        inputs, by_row = await turn.work(json_predict.inputs, document, _types(signature))
        return self._predict(target, signature_name, inputs, by_row)

    async def _classify(self, target: _Target, signature_name: str, examples: input_pb2.Input) -> bytes:
        _, classes = await self._core.classify(*target, signature_name, examples)
        return json_examples.classifications(classes)

    async def _regress(self, target: _Target, signature_name: str, examples: input_pb2.Input) -> bytes:
        _, regressions = await self._core.regress(*target, signature_name, examples)
        return json_examples.regressions(regressions)

    async def _predict(self, target: _Target, signature_name: str, inputs: json_predict.Tensors, by_row: bool) -> bytes:
        _, outputs = await self._core.predict(*target, signature_name, inputs)
        return json_predict.reply(outputs, by_row)

    def _status(self, target: _Target) -> _Reply:
        versions = [
            {
                "version": str(status.version),
                "state": State.Name(status.state),
                "status": {"error_code": status.code.name, "error_message": status.message},
            }
            for status in self._core.status(*target)
        ]
        return _Reply(200, orjson.dumps({"model_version_status": versions}, option=orjson.OPT_INDENT_2))

    def _metadata(self, target: _Target) -> _Reply:
        version, signatures = self._core.metadata(*target)
        proto = get_model_metadata_pb2.SignatureDefMap(signature_def=signatures)
        signature_def = json_format.MessageToDict(proto, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
        spec = {"name": target.name, "signature_name": "", "version": str(version)}
        metadata = {"model_spec": spec, "metadata": {"signature_def": signature_def}}
        return _Reply(200, orjson.dumps(metadata, option=orjson.OPT_INDENT_2))


def _target(match: re.Match[str]) -> _Target:
    name, digits, label = (value and unquote(value) for value in match.group("name", "version", "label"))
    if not digits:
        return _Target(name, None, label)
    significant = digits.lstrip("0") or "0"
    if len(significant) > 19 or int(significant) >= 2**63:
        raise invalid_argument(f"Failed to convert version: {digits} to numeric.")
    return _Target(name, int(significant), None)


def _types(signature: meta_graph_pb2.SignatureDef) -> dict[str, np.dtype]:
    """Return the types of a signature's inputs."""
    types = {}
    for name, info in signature.inputs.items():
        if info.dtype not in NUMPY:
            raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Input {name} has a type that JSON cannot express. Use gRPC")
        types[name] = NUMPY[info.dtype]
    return types


def _error(status: int, message: str) -> _Reply:
    return _Reply(status, orjson.dumps({"error": message}))
