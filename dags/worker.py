"""A Celery worker, and beside it the reaper, as one container's command. When it ends, nothing that it started still runs.

    python -m dags.worker

It takes tasks from the queues in `WINDTUNNEL_WORKER_QUEUES`, separated by commas. Told to stop, it takes no more, gives those
that run a few seconds, and then ends them: Airflow tries them again.
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

from dags.engine import connect, labels
from dags.reaper import has_owner, reap
from windtunnel.problems import Problem
from windtunnel.process import die_with_parent
from windtunnel.settings import Settings, load_settings

REAP_SECONDS = 5
GRACE_SECONDS = 5
END_SECONDS = 20

NO_ENGINE = (AirflowException, DockerException, RequestException)


def main() -> int:
    """Work until told to stop, exit status 0, or until Celery ends by itself, exit status 1."""
    settings = load_settings()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    queues = os.environ.get("WINDTUNNEL_WORKER_QUEUES") or "default"
    # a session of its own: who stops a container's process group, as tini does, must not stop the tasks before their time
    command = ["airflow", "celery", "worker", "--skip-serve-logs", "--queues", queues]  # logs are read from their volume
    celery = subprocess.Popen(command, start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()))
    engine_away = Problem(partial(print, flush=True))
    while celery.poll() is None and not stop.wait(REAP_SECONDS):
        try:
            for identifier in reap(settings):
                print(f"reaper: {identifier} had no process any more, and is removed", flush=True)
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
    """End Celery, which waits for its tasks: after a while those that run in containers are ended too, as a user would cancel them."""
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
    """Kill what is left of a session: tasks have process groups of their own in it."""
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
