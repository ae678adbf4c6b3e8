"""The real TorchServe, on free ports and with a home of its own, shared by the tests of this folder that do it no harm."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.backends.torchserve.backend import TorchServe
from serving.backends.torchserve.configuration import TUNED
from tests.serving.backends.torchserve.running_torchserve import START, Running, answers
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.ports import platform_ports
from windtunnel.settings import ROOT, Settings


@pytest.fixture(scope="session")
def start_torchserve() -> Iterator[Callable[..., Running]]:
    """Starts TorchServe in a home; `changes` are to the tuned configuration. What still runs is stopped in the end."""
    started = []

    def start(home: Path, environment: dict[str, str] | None = None, **changes: object) -> Running:
        settings = Settings(home=home, **platform_ports())
        command = [sys.executable, "-c", START.format(changes)] if changes else [sys.executable, "-m", "serving.backends.torchserve.serve"]
        with (home / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=os.environ | settings.variables | (environment or {}),
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        started.append(Running(settings, process, TorchServe(settings, replace(TUNED, **changes))))
        wait_for(lambda: answers(started[-1]))
        return started[-1]

    yield start
    for running in started:
        running.process.terminate()
    for running in started:
        running.process.wait(PATIENCE)


@pytest.fixture(scope="session")
def torchserve(start_torchserve, tmp_path_factory, trained) -> Running:
    """TorchServe with the versions 1 and 2 of `lenet5-libtorch` and `lenet5-pytorch`; 1 is their champion."""
    running = start_torchserve(tmp_path_factory.mktemp("torchserve"))
    for framework in ("libtorch", "pytorch"):
        for number in (1, 2):
            running.load(f"lenet5-{framework}", number, trained(framework, number))
        running.server.promote(f"lenet5-{framework}", 1)
    return running
