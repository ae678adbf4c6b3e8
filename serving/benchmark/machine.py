"""The machine that runs a benchmark: what the result records about it, and the cores that the benchmark itself uses."""

import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from windtunnel.backend import find_backend
from windtunnel.measure import cpu
from windtunnel.model import models
from windtunnel.platform.processes import GONE
from windtunnel.settings import Settings

THREADS = 1  # per forward pass, in the servers and in process


@contextmanager
def pinned() -> Iterator[list[int]]:
    """Pin this thread and its children to the last half of the available cores, at least one. The servers are not pinned."""
    before = sorted(os.sched_getaffinity(0))
    cores = before[-max(1, len(before) // 2) :]
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def describe(settings: Settings, servers: Collection[str], load_before: float, cores: list[int]) -> dict[str, Any]:
    """Describe the machine for the result.

    Args:
        settings: where the servers listen.
        servers: the names of the servers.
        load_before: CPU load before the benchmark, in per cent.
        cores: the benchmark's cores.
    """
    found = {name: where for name in servers if (where := _server_cores(settings, name))}
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load_before": load_before,
        "threads": THREADS,
        "generator_cores": cores,
        "server_cores": found or None,
        "versions": {"python": platform.python_version(), "ab": _ab_version(), **dict(_packages(servers))},
    }


def _server_cores(settings: Settings, server: str) -> list[int]:
    """Return the cores that a server's processes may use; empty if they are not visible, for example in another container."""
    ports = settings.servers[server].ports.values()
    try:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN and each.laddr.port in ports]
        processes = [psutil.Process(pid) for pid in {each.pid for each in listening if each.pid}]
        tree = [*processes, *(child for process in processes for child in process.children(recursive=True))]
        return sorted({core for process in tree for core in process.cpu_affinity() or []})
    except GONE:
        return []


def _packages(servers: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the versions of the servers' packages, and of the frameworks whose exports they serve."""
    packages = [find_backend(server).packages for server in servers]
    packages += [framework.packages for model in models().values() for framework in model.frameworks if framework.backend in servers]
    for name in sorted({name for names in packages for name in names}):
        try:
            yield name, version(name)
        except PackageNotFoundError:  # it belongs to a server in another image
            continue


def _ab_version() -> str:
    found = re.search(r"Version (\S+)", subprocess.run(["ab", "-V"], capture_output=True, text=True, check=True).stdout)
    return found[1] if found else "unknown"
