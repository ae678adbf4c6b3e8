"""Load generators: a closed loop, in which each client sends its next request when it has an answer, and an open loop at a constant rate.

ApacheBench is the closed loop over REST. Neither Debian nor PyPI has a gRPC load generator that checks answers (h2load counts gRPC errors
as successes), nor an open loop that measures latency from the intended time, so these two are implemented here.
"""

import asyncio
import functools
import itertools
import math
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import grpc.aio
import numpy as np

from windtunnel.errors import WindtunnelError

THREADS = 64  # maximum number of concurrent requests of an open loop
SECONDS = 30  # request timeout
FEWEST = 51  # requests needed for ApacheBench's 99th percentile: with 50 or fewer it reads past their end
LONGEST = 600  # timeout of ApacheBench in seconds
LENGTHS = 0.1  # tolerance for the length of answers: floats have more or fewer digits, while errors have quite different lengths
MORE = 1 << 20  # size of the cache of checked answers; identical bytes are checked once

Check = Callable[[int, bytes], None]
"""Checks an answer (bytes) to a request (index), and raises WindtunnelError if it is wrong."""


@dataclass(frozen=True)
class Figures:
    """The result of a measurement: requests per second, and median and 99th percentile of the latency in seconds."""

    requests_per_second: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Sample:
    """One request of an open loop; times in seconds. `answer` is the server's answer, or an exception."""

    intended: float  # when the request should have been sent
    sent: float
    answered: float
    answer: Any

    @property
    def latency(self) -> float:
        """Latency from the intended time, so that delays by a stalled generator or server are included."""
        return self.answered - self.intended


class OpenLoop:
    """Calls `ask` at a constant rate while the context lasts, whether or not answers arrive. `samples` is complete afterwards."""

    def __init__(self, ask: Callable[[int], Any], rate: float) -> None:
        """Initialise without sending.

        Args:
            ask: called on a thread with the request's number.
            rate: requests per second.
        """
        self.samples: list[Sample] = []
        self._ask = ask
        self._interval = 1 / rate
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._run)
        self._callers = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> "OpenLoop":
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._clock.join()
        self._callers.shutdown()

    def _run(self) -> None:
        start = time.perf_counter()
        for number in itertools.count():
            intended = start + number * self._interval
            if self._ended.wait(max(0.0, intended - time.perf_counter())):
                return
            self._callers.submit(self._call, number, intended)

    def _call(self, number: int, intended: float) -> None:
        sent = time.perf_counter()
        try:
            answer = self._ask(number)
        except Exception as error:  # any exception means that the request has failed
            answer = error
        self.samples.append(Sample(intended, sent, time.perf_counter(), answer))


def open_loop(ask: Callable[[int], Any], rate: float, warm_up: float, seconds: float) -> Figures:
    """Send requests at a constant rate; latency counts from the intended time.

    Args:
        ask: called on a thread with the request's number; an exception invalidates the measurement.
        rate: requests per second.
        warm_up: seconds before the measurement.
        seconds: length of the measurement.

    Raises:
        WindtunnelError: a request failed.
    """
    uncounted = round(warm_up * rate)
    with OpenLoop(ask, rate) as load:
        time.sleep(warm_up + seconds)
        while len(load.samples) <= uncounted:  # at least one request, however slow the server is
            time.sleep(1 / rate)
    if failures := [sample.answer for sample in load.samples if isinstance(sample.answer, Exception)]:
        raise WindtunnelError(f"{len(failures)} of {len(load.samples)} requests failed, the first: {failures[0]}") from failures[0]
    counted = sorted(load.samples, key=lambda sample: sample.intended)[uncounted:]
    # At least until the last request's interval ends, otherwise the rate would be higher than the offered one.
    took = max(*(sample.answered for sample in counted), counted[-1].intended + 1 / rate) - counted[0].intended
    return _figures(len(counted) / took, [sample.latency for sample in counted])


def ab(
    url: str, body: bytes, content_type: str, headers: Mapping[str, str], concurrency: int, requests: int, check: Callable[[bytes], None]
) -> Figures:
    """Send the same request repeatedly with ApacheBench, keeping connections alive.

    ApacheBench prints each answer's header, and the part of the body that arrived with it, at most 2 kB. Every answer must have a status
    2xx and the same length within a tenth, and every body that was printed in full is checked. If a server sends the header before the
    body, or a large body, `check` does not see all answers: check such answers before and after.
    https://httpd.apache.org/docs/current/programs/ab.html

    Args:
        url: the URL.
        body: the request's body.
        content_type: the body's content type.
        headers: the request's headers.
        concurrency: number of connections.
        requests: number of requests, at least as many as connections; with fewer than `FEWEST` the latencies are NaN.
        check: raises WindtunnelError if an answer's body is wrong; called once for identical bodies.

    Raises:
        WindtunnelError: ApacheBench cannot be started, a request failed, or an answer is wrong.
    """
    with tempfile.TemporaryDirectory() as place:
        sent, percentiles, printed = (Path(place, name) for name in ("body", "percentiles", "printed"))
        sent.write_bytes(body)
        flags = ["-k", "-l", "-q", "-v", 2, "-s", SECONDS, "-c", concurrency, "-n", requests, "-e", percentiles]
        given = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        with printed.open("wb") as output:
            _run_ab([*flags, "-p", sent, "-T", content_type, *given, url], url, output)
        answers, summary = _read_ab(printed.read_bytes())
        times = dict(line.split(",") for line in percentiles.read_text().splitlines())
    failed = _number("Failed requests", summary) + _number("Non-2xx responses", summary)
    if failed or len(answers) < requests:
        raise WindtunnelError(f"{failed or requests - len(answers):.0f} of {requests} requests to {url} failed")
    _check_answers(url, answers, functools.lru_cache(MORE)(check))
    latencies = (float(times[share]) / 1000 if requests >= FEWEST else math.nan for share in ("50", "99"))
    return Figures(_number("Requests per second", summary), *latencies)


def _run_ab(arguments: Sequence[Any], url: str, output: BinaryIO) -> None:
    try:
        done = subprocess.run(["ab", *map(str, arguments)], stdout=output, stderr=subprocess.PIPE, text=True, timeout=LONGEST)
    except FileNotFoundError as error:
        raise WindtunnelError("ab is not installed. Install it: apt-get install apache2-utils") from error
    except subprocess.TimeoutExpired as error:
        raise WindtunnelError(f"ab did not finish with {url} within {LONGEST} s") from error
    if done.returncode:
        raise WindtunnelError(f"ab failed on {url} with status {done.returncode}: {done.stderr.strip()[-200:]}")


def _read_ab(printed: bytes) -> tuple[list[tuple[bytes, bytes]], str]:
    """Return each answer's header with the printed part of its body, and the summary."""
    before, end, summary = printed.rpartition(b"..done\n")
    parts = (part.partition(b"\r\n\r\n") for part in before.split(b"LOG: header received:\n")[1:])
    # A header that arrived in pieces is printed after each piece, each time from its beginning.
    return [(header, body) for header, end_of_header, body in parts if end_of_header], (end + summary).decode(errors="replace")


def _check_answers(url: str, answers: Sequence[tuple[bytes, bytes]], check: Callable[[bytes], None]) -> None:
    expected = 0
    for header, body in answers:
        found = re.search(rb"^content-length:\s*(\d+)", header, re.IGNORECASE | re.MULTILINE)
        if not found:
            raise WindtunnelError(f"{url} sends no Content-Length: found {header[:200]!r}")
        length = int(found[1])
        if len(body) > length:  # the whole body and a line break
            check(body[:length])
        expected = expected or length
        if abs(length - expected) > LENGTHS * expected:
            raise WindtunnelError(f"{url} answers the same request with {length} bytes, expected about {expected}: {body[:200]!r}")


def _number(name: str, output: str) -> float:
    found = re.search(rf"^{name}:\s+([\d.]+)", output, re.MULTILINE)
    return float(found[1]) if found else 0.0


def grpc_closed_loop(
    address: str,
    method: str,
    metadata: Mapping[str, str],
    requests: Sequence[bytes],
    check: Check,
    concurrency: int,
    seconds: tuple[float, float],
) -> Figures:
    """Send requests over one gRPC channel.

    Args:
        address: host and port.
        method: a path, `/package.Service/Method`.
        metadata: metadata of each request.
        requests: messages, sent in turn.
        check: called once for identical answers to a request.
        concurrency: number of concurrent requests.
        seconds: length of the warm-up, and of the measurement.

    Raises:
        WindtunnelError: an answer is an error, or is wrong.
    """
    return asyncio.run(_grpc_closed_loop(address, method, tuple(metadata.items()), requests, check, concurrency, *seconds))


async def _grpc_closed_loop(
    address: str,
    method: str,
    metadata: tuple[tuple[str, str], ...],
    requests: Sequence[bytes],
    check: Check,
    concurrency: int,
    warm_up: float,
    seconds: float,
) -> Figures:
    numbers = itertools.count()
    latencies: list[float] = []
    look_into = functools.lru_cache(MORE)(check)  # cached: checking competes for CPU with the server that is measured

    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(method)
        start = time.perf_counter() + warm_up
        last = end = start + seconds

        async def client() -> None:
            nonlocal last
            while (sent := time.perf_counter()) < end or not latencies:
                index = next(numbers) % len(requests)
                look_into(index, await call(requests[index], timeout=SECONDS, metadata=metadata))
                answered = time.perf_counter()
                if start <= answered and (answered <= end or not latencies):  # at least one, however slow the server is
                    latencies.append(answered - sent)
                    last = max(end, answered)

        try:
            await asyncio.gather(*(client() for _ in range(concurrency)))
        except grpc.aio.AioRpcError as error:
            raise WindtunnelError(f"{address} answers {error.code().name}: {error.details()}") from error
    return _figures(len(latencies) / (last - start), latencies)


def _figures(rate: float, latencies: Sequence[float]) -> Figures:
    return Figures(rate, percentile(latencies, 50), percentile(latencies, 99))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` per cent of all values do not exceed."""
    return float(np.percentile(values, share))
