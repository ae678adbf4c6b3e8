"""The reaper: removes what tasks have started and their processes, when they were killed, could not remove.

A worker runs it every few seconds, see `dags/worker.py`.
"""

import os
import socket

import psutil

from dags.engine import Engine, connect, labels
from windtunnel.settings import Settings


def owner(engine: Engine) -> dict[str, str]:
    """Labels that say by which process, where and on which engine something was started."""
    process = psutil.Process(os.getpid())
    started = f"{process.pid} {process.create_time():.2f}"
    return labels(worker=socket.gethostname(), process=started, engine=engine.info()["ID"])


def has_owner(engine: Engine, found: dict[str, str]) -> bool:
    """Whether the process that started what carries these labels still runs.

    Of another worker only the engine can tell, and only of one that is a container of its own: what a worker started on
    another engine of the same Swarm is left to that worker.
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
    """Remove this project's containers, or services, that no process owns any more, and return their ids.

    Raises:
        AirflowException: no engine answers.
        docker.errors.APIError: the engine refuses.
    """
    engine = connect(settings)
    found = engine.find(labels(project=settings.docker_project))
    orphans = [identifier for identifier, carried in found.items() if not has_owner(engine, carried)]
    for identifier in orphans:
        engine.discard(identifier)
    return orphans
