"""Load generators: at a constant rate, and as fast as answers come."""

import asyncio
import functools
import itertools
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from windtunnel.errors import WindtunnelError

THREADS = 64  # requests of an open loop that can be on their way at once


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


def ab(url: str, body: Path, content_type: str, headers: Sequence[str], concurrency: int, seconds: int) -> float:
    """Answers a second by ApacheBench, keeping connections alive. https://httpd.apache.org/docs/current/programs/ab.html

    Raises:
        WindtunnelError: it cannot be started, a request failed, or an answer had another status than 2xx.
    """
    flags = ["-k", "-l", "-q", "-s", "30", "-c", concurrency, "-t", seconds, "-n", 10_000_000]  # -t would make -n 50,000
    given = [word for header in headers for word in ("-H", header)]
    command = ["ab", *flags, "-p", body, "-T", content_type, *given, url]
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds + 60)
    except FileNotFoundError as error:
        raise WindtunnelError("ab is not installed: apt-get install apache2-utils") from error
    except subprocess.TimeoutExpired as error:
        raise WindtunnelError(f"ab has not ended {url} after {seconds + 60} s") from error
    if done.returncode:
        raise WindtunnelError(f"ab ended with status {done.returncode} on {url}: {done.stderr.strip()[-200:]}")
    failed = _number("Failed requests", done.stdout) + _number("Non-2xx responses", done.stdout)
    if failed:
        raise WindtunnelError(f"{failed:.0f} of {_number('Complete requests', done.stdout):.0f} requests to {url} failed")
    return _number("Requests per second", done.stdout)


def _number(name: str, output: str) -> float:
    found = re.search(rf"^{name}:\s+([\d.]+)", output, re.MULTILINE)
    return float(found[1]) if found else 0.0


def grpc_rate(
    address: str, method: str, requests: Sequence[bytes], check: Callable[[int, bytes], bool], concurrency: int, seconds: float
) -> float:
    """Answers a second over one gRPC channel.

    Args:
        address: host and port.
        method: as `/package.Service/Method`.
        requests: messages, sent in turn.
        check: whether an answer, its bytes, is right for a request, its index; asked once for those that are the same to the byte.
        concurrency: requests on their way at once.
        seconds: for how long.

    Raises:
        WindtunnelError: an answer is an error, or wrong.
    """
    return asyncio.run(_grpc_rate(address, method, requests, check, concurrency, seconds))


async def _grpc_rate(
    address: str, method: str, requests: Sequence[bytes], check: Callable[[int, bytes], bool], concurrency: int, seconds: float
) -> float:
    numbers = itertools.count()
    answered = 0
    right = functools.lru_cache(1024)(check)  # the server is on the same cores, and it is the server that is measured

    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(method)

        async def worker() -> None:
            nonlocal answered
            while time.perf_counter() < end:
                index = next(numbers) % len(requests)
                if not right(index, await call(requests[index], timeout=30)):
                    raise WindtunnelError(f"{address} gave a wrong answer to request {index} of {len(requests)}")
                answered += 1

        start = time.perf_counter()
        end = start + seconds
        try:
            await asyncio.gather(*(worker() for _ in range(concurrency)))
        except grpc.aio.AioRpcError as error:
            raise WindtunnelError(f"{address} answers {error.code().name}: {error.details()}") from error
        return answered / (time.perf_counter() - start)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are at most, as 99 per cent."""
    return float(np.percentile(values, share))
