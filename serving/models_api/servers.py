"""Ask the model servers, each with a timeout of its own: one that is down or hangs delays neither the others nor the page."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import httpx

from serving.backends.base import Served, Server
from serving.backends.catalog import connect
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""The timeout of a server that is asked what it serves. On idle cores one answers within 50 ms."""

THREADS = 4
"""How many requests wait for one server at a time: the clients' own timeouts are as long as 60 s."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer(Generic[Found]):
    """What a server answered, or why it did not: one of the two is None."""

    found: Found | None
    problem: str | None


class Look:
    """What each server serves. `problems` has a line for each server that did not answer, by name."""

    def __init__(self, served: Mapping[str, Served], problems: Mapping[str, str]) -> None:
        self._served = served
        self.problems = problems

    def of(self, name: str) -> Served | None:
        """Return what is served of a registered model; None if its server did not answer."""
        return self._served.get(name)


class Servers:
    """The declared model servers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[str, Server] = {}
        self._pools = {name: ThreadPoolExecutor(THREADS, f"ask-{name}") for name in settings.servers}
        self._looking: dict[tuple[str, tuple[str, ...]], Future[dict[str, Served]]] = {}
        self._lock = threading.Lock()

    def look(self, names: Mapping[str, Iterable[str]]) -> Look:
        """Ask all servers at once what they serve.

        Args:
            names: the registered models of each server. A server without any is only asked whether it is up.
        """
        wanted = {server: tuple(sorted(names.get(server, ()))) for server in self._pools}
        started = {server: self._look(server, models) for server, models in wanted.items()}
        deadline = time.monotonic() + LOOK_SECONDS
        served: dict[str, Served] = {}
        problems = {}
        for server, future in started.items():
            answer = self._wait(server, future, deadline - time.monotonic(), LOOK_SECONDS)
            served |= answer.found or {}
            if answer.problem:
                problems[server] = answer.problem
        return Look(served, problems)

    def ask(self, asked: Mapping[str, tuple[str, Callable[[Server], Found]]], seconds: float) -> dict[str, Answer[Found]]:
        """Ask several servers at once, and return the answers by the keys of `asked`, which name a server and what to call with it."""
        started = {key: (server, self._pools[server].submit(self._call, server, call)) for key, (server, call) in asked.items()}
        deadline = time.monotonic() + seconds
        answers: dict[str, Answer[Found]] = {}
        for key, (server, future) in started.items():
            answers[key] = self._wait(server, future, deadline - time.monotonic(), seconds)
        return answers

    def _call(self, server: str, call: Callable[[Server], Found]) -> Found:
        return call(self._client(server))

    def _client(self, server: str) -> Server:
        with self._lock:
            if server not in self._clients:
                self._clients[server] = connect(server, self._settings)
            return self._clients[server]

    def _look(self, server: str, names: tuple[str, ...]) -> "Future[dict[str, Served]]":
        """Look at a server, or join the look that has not ended yet: requests do not pile up before a server that hangs."""
        with self._lock:
            known = self._looking.get((server, names))
            if known and not known.done():
                return known
            future = self._pools[server].submit(self._served, server, names)
            self._looking[server, names] = future
            return future

    def _served(self, server: str, names: tuple[str, ...]) -> dict[str, Served]:
        self._check(server)
        client = self._client(server)
        return {name: client.served(name) for name in names}

    def _check(self, server: str) -> None:
        """Check that a server is up, as `windtunnel status` does."""
        addresses = self._settings.servers[server]
        if addresses.health:
            try:
                reply = httpx.get(addresses.address + addresses.health, timeout=LOOK_SECONDS, trust_env=False, verify=False)
            except httpx.HTTPError as error:
                raise WindtunnelError(f"{server} does not answer at {addresses.address} ({error}). See `windtunnel status`") from error
            if reply.is_server_error:
                raise WindtunnelError(f"{server} at {addresses.address} answers {reply.status_code}. See its log")
            return
        place = urlsplit(addresses.address if "//" in addresses.address else f"//{addresses.address}")
        try:
            socket.create_connection((str(place.hostname), place.port or 0), LOOK_SECONDS).close()
        except OSError as error:
            raise WindtunnelError(f"{server} does not answer at {addresses.address} ({error}). See `windtunnel status`") from error

    def _wait(self, server: str, future: "Future[Found]", left: float, seconds: float) -> Answer[Found]:
        try:
            return Answer(future.result(max(0, left)), None)
        except (TimeoutError, CancelledError):
            future.cancel()  # if it has not begun, because others before it hang
            return Answer(None, f"{server} does not answer within {seconds:g} s. See `windtunnel status`, and its log")
        except WindtunnelError as error:
            return Answer(None, str(error))
        except Exception as error:  # the client of another package's backend
            _log.exception("%s cannot be asked", server)
            return Answer(None, f"{server} cannot be asked ({error!r}). See the log of models_api")
