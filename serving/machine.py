"""The machine that a benchmark runs on: what is recorded of it, and on which of its cores the benchmark itself runs."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from windtunnel.measure import cpu
from windtunnel.processes import GONE
from windtunnel.settings import Settings

PACKAGES = ("ai-edge-litert", "grpcio", "tensorflow", "torch", "torchserve")
THREADS = 1  # of a forward pass, in the servers and in process


@contextmanager
def pinned() -> Iterator[list[int]]:
    """Keep this thread, and what it starts, to the last half of the cores it may use, one at least; the servers are where they are."""
    before = sorted(os.sched_getaffinity(0))
    cores = before[-max(1, len(before) // 2) :]
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def describe(settings: Settings, servers: Iterable[str], load_before: float, cores: list[int]) -> dict[str, Any]:
    """The machine, for the result.

    Args:
        settings: where the servers listen.
        servers: their names.
        load_before: how busy the machine was, per cent.
        cores: those of the benchmark.
    """
    found = {name: where for name in servers if (where := _server_cores(settings, name))}
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load_before": load_before,
        "threads": THREADS,
        "generator_cores": cores,
        "server_cores": found or None,
        "versions": {"python": platform.python_version(), "ab": _ab_version(), **dict(_packages())},
    }


def _server_cores(settings: Settings, server: str) -> list[int]:
    """The cores that a server's processes may use; none where they cannot be seen, as in another container."""
    port = {"torchserve": settings.torchserve_inference_port, "tfserving": settings.tfserving_rest_port}[server]
    try:
        listening = {
            each.pid for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid
        }
        processes = [psutil.Process(pid) for pid in listening]
        tree = [*processes, *(child for process in processes for child in process.children(recursive=True))]
        return sorted({core for process in tree for core in process.cpu_affinity() or []})
    except GONE:
        return []


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:  # of a server in another image
            continue


def _ab_version() -> str:
    found = re.search(r"Version (\S+)", subprocess.run(["ab", "-V"], capture_output=True, text=True, check=True).stdout)
    return found[1] if found else "unknown"
