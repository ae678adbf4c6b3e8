"""The requests that a load generator sends to a served version, and what their answers must say."""

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

from serving.load import FEWEST, MORE, SECONDS, Figures, ab, grpc_closed_loop, open_loop
from windtunnel.errors import WindtunnelError

WARM_UP = 0.2  # of the time that counts
FEW = 10  # requests by which ApacheBench begins to warm up


@dataclass(frozen=True)
class Batch:
    """The images of one request, float32 (N,28,28,1), whole numbers 0..255, and the label of each."""

    images: np.ndarray
    labels: tuple[int, ...]


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> list[Batch]:
    """Batches of this size that hold every image; the last goes on with the first images."""
    places = (np.arange(start, start + size) % len(images) for start in range(0, len(images), size))
    return [Batch(images[place], tuple(labels[place].tolist())) for place in places]


@dataclass(frozen=True)
class Requests(ABC):
    """Requests to one version over one protocol.

    Attributes:
        messages: the body of each.
        labels: those that its answer must give.
        read: the labels in the bytes of an answer; raises ValueError, KeyError, TypeError or the like where it is another one.
    """

    messages: Sequence[bytes]
    labels: Sequence[tuple[int, ...]]
    read: Callable[[bytes], Sequence[int]]

    @property
    @abstractmethod
    def address(self) -> str:
        """What is asked."""

    def closed(self, concurrency: int, seconds: float, checked: bool = False) -> Figures:
        """What so many clients get who each send when they have their answer, after a warm-up that does not count.

        Args:
            concurrency: how many clients.
            seconds: that count.
            checked: all requests have been sent at this concurrency before, and their answers were right.

        Raises:
            WindtunnelError: there was an answer that is not right: whatever else was found says nothing.
        """
        if not checked:
            self.check_all(concurrency)
        return self.slice(concurrency, seconds)

    @abstractmethod
    def slice(self, concurrency: int, seconds: float) -> Figures:
        """The same for who measures many times, and calls `check_all` before and after all of them."""

    @abstractmethod
    def _ask(self, message: bytes) -> bytes:
        """Send one request and return the answer, on whichever thread.

        Raises:
            WindtunnelError: there is none, or an error.
        """

    def open(self, rate: float, seconds: float) -> Figures:
        """The same of requests that are sent at a constant rate, whether or not answers come. Latencies count from the intended time."""
        look_into = lru_cache(MORE)(self.check)

        def ask(number: int) -> None:
            index = number % len(self.messages)
            look_into(index, self._ask(self.messages[index]))

        try:
            return open_loop(ask, rate, WARM_UP * seconds, seconds)
        except WindtunnelError as error:
            raise WindtunnelError(f"{self.address}: {error}") from error

    def check_all(self, concurrency: int) -> None:
        """Send every request once, at this concurrency, and look into the answers.

        Raises:
            WindtunnelError: an answer is wrong.
        """
        with ThreadPoolExecutor(concurrency) as threads:
            list(threads.map(lambda index: self.check(index, self._ask(self.messages[index])), range(len(self.messages))))

    def check(self, index: int, answer: bytes) -> None:
        """Hold an answer against the labels of its request.

        Raises:
            WindtunnelError: it is another, or none that this server gives.
        """
        try:
            found = tuple(self.read(answer))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise WindtunnelError(f"{self.address} answers with success {answer[:200]!r}, which holds no prediction") from error
        if found != tuple(self.labels[index]):
            raise WindtunnelError(
                f"{self.address} gives the labels {_few(found)} to images to which the trainer gives {_few(self.labels[index])}"
            )


@dataclass(frozen=True)
class Rest(Requests):
    """Over HTTP/1.1."""

    url: str
    content_type: str
    headers: Mapping[str, str]

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def closed(self, concurrency: int, seconds: float, checked: bool = False) -> Figures:
        """By ApacheBench, which sends the first request only: all of them are checked before, and again after it."""
        figures = super().closed(concurrency, seconds, checked)
        self.check_all(concurrency)
        return figures

    def slice(self, concurrency: int, seconds: float) -> Figures:
        """By ApacheBench, which sends the first request only."""
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
        """One a thread, which is kept."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=SECONDS)
        return self._local.connection

    @cached_property
    def _local(self) -> threading.local:
        return threading.local()


@dataclass(frozen=True)
class Grpc(Requests):
    """Over gRPC: the messages of a unary method, as bytes."""

    target: str
    method: str
    metadata: Mapping[str, str]

    @property
    def address(self) -> str:
        """Host, port and method."""
        return f"{self.target}{self.method}"

    def slice(self, concurrency: int, seconds: float) -> Figures:
        """By the generator here, which sends all requests in turn and checks every answer."""
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
