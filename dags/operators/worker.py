"""Run a Celery worker and the reaper, as the command of a container. When it ends, all processes that it started have ended.

    python -m dags.operators.worker

It takes tasks from the comma-separated queues in `WINDTUNNEL_WORKER_QUEUES`. On SIGTERM it takes no more tasks, waits a few seconds for
running ones, and then terminates them: Airflow retries them.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

import psutil
from airflow.sdk.exceptions import AirflowException
from docker.errors import DockerException
from requests import RequestException

from dags.operators.engine import connect, labels
from dags.operators.reaper import has_owner, reap
from windtunnel.platform.child_processes import ending_with_parent
from windtunnel.problems import Problem
from windtunnel.settings import Settings, load_settings

REAP_SECONDS = 5
GRACE_SECONDS = 5
END_SECONDS = 20

NO_ENGINE = (AirflowException, DockerException, RequestException)


def main() -> int:
    """Work until SIGTERM or SIGINT and return 0, or until Celery ends by itself and return 1."""
    settings = load_settings()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    queues = os.environ.get("WINDTUNNEL_WORKER_QUEUES") or "default"
    # a session of its own, because tini signals the container's process group, which must not stop the tasks early
    command = ["airflow", "celery", "worker", "--skip-serve-logs", "--queues", queues]  # logs are read from their volume
    celery = subprocess.Popen(ending_with_parent(command), start_new_session=True)
    engine_away = Problem(partial(print, flush=True))
    while celery.poll() is None and not stop.wait(REAP_SECONDS):
        try:
            for identifier in reap(settings):
                print(f"reaper: {identifier} removed, because its process has ended", flush=True)
            engine_away.is_over()
        except NO_ENGINE as error:
            engine_away.is_there(f"reaper: {error}")
    try:
        _stop(celery, settings)
    finally:
        _kill_session(celery.pid)
    with suppress(*NO_ENGINE):
        engine = connect(settings)
        for identifier in engine.find(_own(settings)):
            engine.discard(identifier)
    return 0 if stop.is_set() else 1


def _stop(celery: subprocess.Popen[bytes], settings: Settings) -> None:
    """Terminate Celery, which waits for its tasks. After a grace period, cancel those that run in containers, as a user would."""
    celery.terminate()
    ended: set[int] = set()
    for second in range(GRACE_SECONDS + END_SECONDS):
        with suppress(subprocess.TimeoutExpired):
            celery.wait(1)
            return
        if second >= GRACE_SECONDS:
            with suppress(*NO_ENGINE):
                engine = connect(settings)
                found = engine.find(_own(settings)).values()
                running = {int(carried["windtunnel.process"].split()[0]) for carried in found if has_owner(engine, carried)}
                for pid in running - ended:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                ended |= running


def _own(settings: Settings) -> dict[str, str]:
    return labels(project=settings.docker_project, worker=socket.gethostname())


def _kill_session(leader: int) -> None:
    """Kill the remaining processes of a session. Its tasks have process groups of their own."""
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
