"""Start real model servers to measure: on free ports, with versions trained for the purpose, in a temporary home."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from serving.backends.base import Server, ServerError, Version
from windtunnel.errors import WindtunnelError
from windtunnel.measure import execute
from windtunnel.platform.ports import platform_ports
from windtunnel.settings import ROOT, Settings

START_SECONDS = 300


def private_settings(home: Path) -> Settings:
    """Return settings with this home, free ports, and no runs by schedule."""
    return Settings(home=home, schedule=None, **platform_ports())


def train(framework: str, number: int, directory: Path) -> Version:
    """Train a version to measure: few images, with its number as the seed. Runs the train server's program and imports nothing from it."""
    out = directory / framework / str(number)
    fields = ["--param", "samples=10000", "--param", f"seed={number}", "--param", "epochs=1"]
    execute([sys.executable, "-m", "train_server.standalone", "--model", "lenet5", "--framework", framework, "--out", str(out), *fields])
    return Version(f"lenet5-{framework}", number, out)


@contextmanager
def running(command: Sequence[str], settings: Settings, server: Server) -> Iterator[None]:
    """Start a model server's program, wait until it answers, and finally stop it and all its children.

    The program should itself end when this process ends: setting that up here, between fork and exec, would break gRPC's threads.

    Raises:
        WindtunnelError: the program has ended, or does not answer.
    """
    environment = os.environ | settings.variables | {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    settings.home.mkdir(parents=True, exist_ok=True)
    log = settings.home / f"{server.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=settings.home, stdout=output, stderr=output)
    try:
        _await(process, server, log)
        yield
    finally:
        tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(timeout=START_SECONDS)
        for left in psutil.wait_procs(tree, timeout=10)[1]:
            left.kill()


def _await(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.served("none")
            return
        except ServerError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise WindtunnelError(
                    f"{server.name} does not start ({error}): {log.read_text(errors='replace').strip()[-500:]}"
                ) from error
        time.sleep(0.1)
