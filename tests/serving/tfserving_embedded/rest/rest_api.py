"""The embedded server's REST API as a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.ports import free_ports


@dataclass(frozen=True)
class RestApi:
    """A running server: its process and where its REST API is."""

    process: psutil.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)


@contextmanager
def rest_api(directory: Path, *flags: str) -> Iterator[RestApi]:
    """A server with these flags, once it listens itself; it must live to the end."""
    (port,) = free_ports(1)
    with EmbeddedServer(directory, f"--rest_api_port={port}", *flags) as server:
        process = psutil.Process(server.process.pid)
        wait_for(lambda: port in {connection.laddr.port for connection in process.net_connections("tcp")}, explain=lambda: server.log)
        yield RestApi(process, port)
        assert server.process.poll() is None, server.log
