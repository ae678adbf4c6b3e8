"""The reaper removes the containers and services of tasks whose processes were killed before they could do so.

A worker runs it every few seconds; see `dags/operators/worker.py`.
"""

import os
import socket

import psutil

from dags.operators.engine import Engine, connect, labels
from windtunnel.settings import Settings


def owner(engine: Engine) -> dict[str, str]:
    """Return labels that identify this process, its host and the engine."""
    process = psutil.Process(os.getpid())
    started = f"{process.pid} {process.create_time():.2f}"
    return labels(worker=socket.gethostname(), process=started, engine=engine.info()["ID"])


def has_owner(engine: Engine, found: dict[str, str]) -> bool:
    """Whether the process still runs that started the container or service with the labels `found`.

    Only the engine knows the state of another worker, and only if that worker runs in one of its containers. Services that a worker on
    another engine of the same Swarm started are left to that worker.
    """
    worker = found["windtunnel.worker"]
    if worker != socket.gethostname():
        return found["windtunnel.engine"] != engine.info()["ID"] or engine.state(worker).get("Running", False)
    pid, started = found["windtunnel.process"].split()
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    except psutil.NoSuchProcess:
        return False


def reap(settings: Settings) -> list[str]:
    """Remove this project's containers or services whose processes have ended, and return their ids.

    Raises:
        AirflowException: the engine does not answer.
        docker.errors.APIError: the engine rejects a request.
    """
    engine = connect(settings)
    found = engine.find(labels(project=settings.docker_project))
    orphans = [identifier for identifier, carried in found.items() if not has_owner(engine, carried)]
    for identifier in orphans:
        engine.discard(identifier)
    return orphans
