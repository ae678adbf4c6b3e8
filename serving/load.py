"""Load generators: a closed loop, in which so many clients each send when they have their answer, and an open one, at a constant rate.

ApacheBench is the closed loop over REST. Neither Debian nor PyPI has one for gRPC that looks into the answers (h2load takes an error of
gRPC for a success), nor an open one that counts from the intended time, so these two are here.
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

THREADS = 64  # requests of an open loop that can be on their way at once
SECONDS = 30  # an answer may take
FEWEST = 51  # requests, of which ApacheBench gives a 99th percentile: of 50 and fewer it reads past their end
LONGEST = 600  # seconds ApacheBench may take
LENGTHS = 0.1  # by which the length of an answer may differ from the first's: floats have more or fewer digits, errors other lengths
MORE = 1 << 20  # answers that are told apart; the same bytes are looked into once

Check = Callable[[int, bytes], None]
"""Looks into the answer, its bytes, to a request, its index, and raises WindtunnelError where it is wrong."""


@dataclass(frozen=True)
class Figures:
    """What a measurement found: requests a second, and the median and 99th percentile of their latencies in seconds."""

    requests_per_second: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Sample:
    """One request of an open loop; times in seconds. `answer` is what the server gave, an exception where it gave none."""

    intended: float  # when it should have been sent
    sent: float
    answered: float
    answer: Any

    @property
    def latency(self) -> float:
        """From the intended time: what a stalled generator or server keeps waiting is not left out."""
        return self.answered - self.intended


class OpenLoop:
    """Calls `ask` at a constant rate, whether or not answers come, while the context lasts; `samples` are complete after it."""

    def __init__(self, ask: Callable[[int], Any], rate: float) -> None:
        """Take no measure yet.

        Args:
            ask: called on a thread with the number of the request.
            rate: requests a second.
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
        except Exception as error:  # whatever it is, the request has failed
            answer = error
        self.samples.append(Sample(intended, sent, time.perf_counter(), answer))


def open_loop(ask: Callable[[int], Any], rate: float, warm_up: float, seconds: float) -> Figures:
    """Ask at a constant rate; latencies count from the intended time.

    Args:
        ask: called on a thread with the number of the request; what it raises makes the figures void.
        rate: requests a second.
        warm_up: seconds before those that count.
        seconds: that count.

    Raises:
        WindtunnelError: a request failed.
    """
    uncounted = round(warm_up * rate)
    with OpenLoop(ask, rate) as load:
        time.sleep(warm_up + seconds)
        while len(load.samples) <= uncounted:  # one at least, however slow the server
            time.sleep(1 / rate)
    if failures := [sample.answer for sample in load.samples if isinstance(sample.answer, Exception)]:
        raise WindtunnelError(f"{len(failures)} of {len(load.samples)} requests failed, the first: {failures[0]}") from failures[0]
    counted = sorted(load.samples, key=lambda sample: sample.intended)[uncounted:]
    # As long as the last one's turn takes at least: else the figure were above the rate that is offered.
    took = max(*(sample.answered for sample in counted), counted[-1].intended + 1 / rate) - counted[0].intended
    return _figures(len(counted) / took, [sample.latency for sample in counted])


def ab(
    url: str, body: bytes, content_type: str, headers: Mapping[str, str], concurrency: int, requests: int, check: Callable[[bytes], None]
) -> Figures:
    """Ask by ApacheBench, one and the same request, keeping connections alive.

    It prints of each answer the header, and what came with it of the body, 2 kB at most. Every answer must have a status 2xx and, give or
    take a tenth, the same length, and every body that was printed as a whole is looked into. A server that sends the header before the
    body, or a large body, escapes `check` in part: look into such answers before and after.
    https://httpd.apache.org/docs/current/programs/ab.html

    Args:
        url: where to.
        body: of the request.
        content_type: of the body.
        headers: of the request.
        concurrency: connections.
        requests: how many, as many as connections at least; of fewer than `FEWEST` the latencies are NaN.
        check: raises WindtunnelError where the body of an answer is wrong; asked once for those that are the same to the byte.

    Raises:
        WindtunnelError: it cannot be started, a request failed, or an answer is wrong.
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
        raise WindtunnelError("ab is not installed: apt-get install apache2-utils") from error
    except subprocess.TimeoutExpired as error:
        raise WindtunnelError(f"ab has not ended {url} after {LONGEST} s") from error
    if done.returncode:
        raise WindtunnelError(f"ab ended with status {done.returncode} on {url}: {done.stderr.strip()[-200:]}")


def _read_ab(printed: bytes) -> tuple[list[tuple[bytes, bytes]], str]:
    """The header of each answer, with what was printed of its body, and the summary."""
    before, end, summary = printed.rpartition(b"..done\n")
    parts = (part.partition(b"\r\n\r\n") for part in before.split(b"LOG: header received:\n")[1:])
    # A header that came in pieces is printed after each piece, from its beginning.
    return [(header, body) for header, end_of_header, body in parts if end_of_header], (end + summary).decode(errors="replace")


def _check_answers(url: str, answers: Sequence[tuple[bytes, bytes]], check: Callable[[bytes], None]) -> None:
    expected = 0
    for header, body in answers:
        found = re.search(rb"^content-length:\s*(\d+)", header, re.IGNORECASE | re.MULTILINE)
        if not found:
            raise WindtunnelError(f"{url} does not say how long its answers are: {header[:200]!r}")
        length = int(found[1])
        if len(body) > length:  # all of it, and a line break
            check(body[:length])
        expected = expected or length
        if abs(length - expected) > LENGTHS * expected:
            raise WindtunnelError(f"{url} gave an answer of {expected} bytes, and one of {length} to the same request: {body[:200]!r}")


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
    """Ask over one gRPC channel.

    Args:
        address: host and port.
        method: as `/package.Service/Method`.
        metadata: of each request.
        requests: messages, sent in turn.
        check: asked once for answers to a request that are the same to the byte.
        concurrency: requests on their way at once.
        seconds: of warming up, and that count.

    Raises:
        WindtunnelError: an answer is an error, or wrong.
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
    look_into = functools.lru_cache(MORE)(check)  # the server is on the same machine, and it is the server that is measured

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
                if start <= answered and (answered <= end or not latencies):  # one at least, however slow the server
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
    """The value that `share` of all are at most, as 99 per cent."""
    return float(np.percentile(values, share))
