"""The requests that a load generator sends to a served version, and the expected answers."""

import http.client
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from serving.load.generators import FEWEST, MORE, SECONDS, Figures, ab, grpc_closed_loop, open_loop
from windtunnel.errors import WindtunnelError

WARM_UP = 0.2  # fraction of the measured time
FEW = 10  # requests with which ApacheBench's warm-up begins


@dataclass(frozen=True)
class Batch:
    """The samples of one request, float32 (N, shape), and each sample's label. Pixels are whole numbers 0..255."""

    images: np.ndarray
    labels: tuple[int, ...]


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> list[Batch]:
    """Return batches of this size that contain every image; the last one is filled up with the first images."""
    places = (np.arange(start, start + size) % len(images) for start in range(0, len(images), size))
    return [Batch(images[place], tuple(labels[place].tolist())) for place in places]


@dataclass(frozen=True)
class Requests(ABC):
    """Requests to one version over one protocol.

    Attributes:
        messages: the body of each request.
        labels: the expected labels of each answer.
        read: parses an answer's labels; raises ValueError, KeyError, TypeError or the like if it is not a prediction.
    """

    messages: Sequence[bytes]
    labels: Sequence[tuple[int, ...]]
    read: Callable[[bytes], Sequence[int]]

    @property
    @abstractmethod
    def address(self) -> str:
        """The address that requests are sent to."""

    def closed(self, concurrency: int, seconds: float, checked: bool = False) -> Figures:
        """Measure what concurrent clients get, each sending its next request when it has an answer, after a discarded warm-up.

        Args:
            concurrency: number of clients.
            seconds: length of the measurement.
            checked: all requests have been sent at this concurrency before, and their answers were right.

        Raises:
            WindtunnelError: an answer is not right, which invalidates the measurement.
        """
        if not checked:
            self.check_all(concurrency)
        return self.slice(concurrency, seconds)

    @abstractmethod
    def slice(self, concurrency: int, seconds: float) -> Figures:
        """Like `closed`, for callers that measure many times and call `check_all` before and after all of them."""

    @abstractmethod
    def _ask(self, message: bytes) -> bytes:
        """Send one request and return the answer; may be called on any thread.

        Raises:
            WindtunnelError: there is no answer, or it is an error.
        """

    def open(self, rate: float, seconds: float) -> Figures:
        """Like `closed`, with requests at a constant rate, whether or not answers arrive. Latency counts from the intended time."""
        look_into = lru_cache(MORE)(self.check)

        def ask(number: int) -> None:
            index = number % len(self.messages)
            look_into(index, self._ask(self.messages[index]))

        try:
            return open_loop(ask, rate, WARM_UP * seconds, seconds)
        except WindtunnelError as error:
            raise WindtunnelError(f"{self.address}: {error}") from error

    def check_all(self, concurrency: int) -> None:
        """Send every request once at this concurrency, and check the answers.

        Raises:
            WindtunnelError: an answer is wrong.
        """
        with ThreadPoolExecutor(concurrency) as threads:
            list(threads.map(lambda index: self.check(index, self._ask(self.messages[index])), range(len(self.messages))))

    def check(self, index: int, answer: bytes) -> None:
        """Compare an answer with its request's labels.

        Raises:
            WindtunnelError: the labels differ, or it is not an answer of this server.
        """
        try:
            found = tuple(self.read(answer))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise WindtunnelError(f"{self.address} answers without a prediction: found {answer[:200]!r}") from error
        if found != tuple(self.labels[index]):
            raise WindtunnelError(
                f"wrong answer from {self.address}: found the labels {_few(found)}, expected the trainer's {_few(self.labels[index])}"
            )


@dataclass(frozen=True)
class Rest(Requests):
    """Requests over HTTP/1.1."""

    url: str
    content_type: str
    headers: Mapping[str, str]

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def closed(self, concurrency: int, seconds: float, checked: bool = False) -> Figures:
        """Measure with ApacheBench, which sends only the first request. All requests are checked before and after."""
        figures = super().closed(concurrency, seconds, checked)
        self.check_all(concurrency)
        return figures

    def slice(self, concurrency: int, seconds: float) -> Figures:
        """Measure with ApacheBench, which sends only the first request."""
        few = max(FEW, 2 * concurrency)
        rate = self._ab(concurrency, few).requests_per_second
        if (warm_up := round(rate * WARM_UP * seconds)) > few:
            rate = self._ab(concurrency, warm_up).requests_per_second
        return self._ab(concurrency, max(FEWEST, 2 * concurrency, round(rate * seconds)))

    def _ab(self, concurrency: int, requests: int) -> Figures:
        return ab(self.url, self.messages[0], self.content_type, self.headers, concurrency, requests, lambda body: self.check(0, body))

    def _ask(self, message: bytes) -> bytes:
        connection = self._connection()
        try:
            connection.request("POST", urlsplit(self.url).path, message, {"Content-Type": self.content_type, **self.headers})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise WindtunnelError(f"{self.url} does not answer ({error or type(error).__name__})") from error
        if not 200 <= response.status < 300:
            raise WindtunnelError(f"{self.url} answers {response.status}: {answer[:200]!r}")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """The connection of this thread, which is kept open."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=SECONDS)
        return self._local.connection

    @cached_property
    def _local(self) -> threading.local:
        return threading.local()


@dataclass(frozen=True)
class Grpc(Requests):
    """Requests over gRPC: the messages of a unary method, as bytes."""

    target: str
    method: str
    metadata: Mapping[str, str]

    @property
    def address(self) -> str:
        """Host, port and method."""
        return f"{self.target}{self.method}"

    def slice(self, concurrency: int, seconds: float) -> Figures:
        """Measure with the gRPC load generator, which sends all requests in turn and checks every answer."""
        warm_up = WARM_UP * seconds
        return grpc_closed_loop(self.target, self.method, self.metadata, self.messages, self.check, concurrency, (warm_up, seconds))

    def _ask(self, message: bytes) -> bytes:
        import grpc

        try:
            return self._call(message, timeout=SECONDS, metadata=tuple(self.metadata.items()))
        except grpc.RpcError as error:
            raise WindtunnelError(f"{self.target} answers {error.code().name}: {error.details()}") from error

    @cached_property
    def _call(self) -> Any:
        import grpc

        return grpc.insecure_channel(self.target, [("grpc.enable_http_proxy", 0)]).unary_unary(self.method)


def _few(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels[:8])) + (", …" if len(labels) > 8 else "")
