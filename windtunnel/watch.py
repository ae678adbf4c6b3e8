"""A run as it happens, and what of Airflow it waits for."""

import time
from collections.abc import Callable, Iterator

from windtunnel import platform
from windtunnel.airflow import POLL_SECONDS, Airflow, AirflowAwayError, DagRun
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings
from windtunnel.supervised import last_start

BEAT_SECONDS = 15.0  # after which a scheduler is looked at: it gives a sign of life every 5 s
CHECK_SECONDS = 5.0
TURN_SECONDS = 10.0  # without a running task, after which it is said that the run waits for others


def watch(settings: Settings, airflow: Airflow, dag_id: str, run_id: str, say: Callable[[str], None]) -> Iterator[DagRun]:
    """A run as it is, again and again until it has ended; `say` is told what it waits for and when that is back.

    Raises:
        WindtunnelError: what it waits for does not come back by itself.
    """
    missing = waiting = ""
    due = 0.0
    ran, told = time.monotonic(), False  # when a task of the run was last seen running, and what was said since
    started = last_start(settings.home, "scheduler")
    while True:
        try:
            run = airflow.run(dag_id, run_id)
            if time.monotonic() > due:
                missing = _missing(settings, "scheduler") if airflow.scheduler_silence() > BEAT_SECONDS else ""
                due = time.monotonic() + CHECK_SECONDS
        except AirflowAwayError:
            if last_start(settings.home, "api-server") is None:  # it is elsewhere, nobody here knows whether it comes back
                raise
            missing = _missing(settings, "api-server")
        else:
            yield run
            if run.ended:
                return
            if any(task.state == "running" for task in run.tasks):
                ran, told = time.monotonic(), False
            elif not told and time.monotonic() - ran > TURN_SECONDS and any(task.state == "scheduled" for task in run.tasks):
                say("the run waits for its turn: runs train and measure one at a time")
                told = True
        if missing != waiting:
            say(missing or "Airflow is complete again")
            waiting = missing
        if (start := last_start(settings.home, "scheduler")) != started:
            say("the scheduler ended and was started again: what it ran is tried again within a minute")
            started = start
        time.sleep(POLL_SECONDS)


def _missing(settings: Settings, name: str) -> str:
    """What is said of one of Airflow's processes that does not answer."""
    if last_start(settings.home, name) is None:
        return f"the run waits for the {name}: it gives no sign of life"
    found = next(process for process in platform.status(settings) if process.name == name)
    if found.up:
        return ""
    if found.state in ("failed", "down"):
        raise WindtunnelError(
            f"the run waits for the {name}, which is {found.state}: see {found.log}; `windtunnel up` starts it, and the run goes on"
        )
    return f"the run waits for the {name}: {found.state}, {found.restarts} restarts, see {found.log}"
