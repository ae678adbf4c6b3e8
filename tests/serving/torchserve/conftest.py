"""The real TorchServe, on free ports and with a home of its own, shared by the tests of this folder that do it no harm."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from serving.server import Version
from serving.torchserve.config import TUNED, Config
from serving.torchserve.server import TorchServe
from serving.torchserve.tokens import authorization
from tests.ports import platform_ports
from windtunnel.settings import ROOT, Settings

START = """
from serving.torchserve.config import TUNED
from serving.torchserve.serve import serve
from windtunnel.settings import load_settings
from dataclasses import replace
serve(load_settings(), replace(TUNED, **{}))
"""


@dataclass
class Running:
    """A TorchServe of the tests' own. That it takes the tokens in its home proves that it is this one that answers."""

    settings: Settings
    process: subprocess.Popen[bytes]
    server: TorchServe

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def load(self, name: str, number: int, directory: Path) -> None:
        """Publish a version and wait until it is ready."""
        self.server.publish(Version(name, number, directory))
        wait_until(lambda: self.server.ready(name, number))

    def post(self, name: str, body: bytes, **headers: str) -> httpx.Response:
        """What a user's request is answered."""
        url = f"{self.server.inference}/predictions/{name}"
        headers = authorization(self.server.tokens.get("inference")) | {each.replace("_", "-"): value for each, value in headers.items()}
        return httpx.post(url, content=body, headers=headers, trust_env=False, timeout=10)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def answers(server: TorchServe) -> bool:
    try:
        return server.names() is not None
    except Exception as error:
        assert getattr(error, "retriable", False), error
        return False


@pytest.fixture(scope="session")
def start_torchserve() -> Iterator[Callable[..., Running]]:
    """Starts TorchServe in a home; `changes` are to the tuned configuration. What still runs is stopped in the end."""
    started = []

    def start(home: Path, settings: Settings | None = None, **changes: object) -> Running:
        settings = settings or Settings(home=home, **platform_ports())
        environment = os.environ | {f"WINDTUNNEL_{name.upper()}": str(value or "none") for name, value in settings}
        with (home / "output").open("ab") as output:
            command = [sys.executable, "-c", START.format(changes)] if changes else [sys.executable, "-m", "serving.torchserve.serve"]
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        config = Config(**{**vars(TUNED), **changes})
        started.append(Running(settings, process, TorchServe(settings, config)))
        wait_until(lambda: process.poll() is None and answers(started[-1].server))
        return started[-1]

    yield start
    for running in started:
        running.process.terminate()
    for running in started:
        running.process.wait(30)


@pytest.fixture(scope="session")
def torchserve(start_torchserve, tmp_path_factory, trained) -> Running:
    """TorchServe with the versions 1 and 2 of `lenet5-libtorch` and `lenet5-pytorch`; 1 is their champion."""
    running = start_torchserve(tmp_path_factory.mktemp("torchserve"))
    for framework in ("libtorch", "pytorch"):
        for number in (1, 2):
            running.load(f"lenet5-{framework}", number, trained(framework, number))
        running.server.promote(f"lenet5-{framework}", 1)
    return running
