"""Watch a run, and report when it waits for a process of Airflow."""

import time
from collections.abc import Callable, Iterator

from windtunnel.errors import WindtunnelError
from windtunnel.platform import lifecycle
from windtunnel.platform.airflow import POLL_SECONDS, Airflow, AirflowAwayError, DagRun
from windtunnel.platform.home import check_room
from windtunnel.platform.supervised import last_start
from windtunnel.settings import Settings

BEAT_SECONDS = 15.0  # without a heartbeat, after which the scheduler is checked; it sends one every 5 s
CHECK_SECONDS = 5.0
TURN_SECONDS = 10.0  # without a running task, after which a message says that the run waits for other runs


def watch(settings: Settings, airflow: Airflow, dag_id: str, run_id: str, say: Callable[[str], None]) -> Iterator[DagRun]:
    """Yield the state of a run, repeatedly, until it has ended.

    Args:
        settings, airflow: the platform, and the client of its Airflow.
        dag_id, run_id: the run.
        say: called with messages about what the run waits for, and when that is available again.

    Raises:
        WindtunnelError: the run waits for a process that is not restarted automatically, or the disk is full.
    """
    missing = waiting = ""
    due = 0.0
    ran, told = time.monotonic(), False  # when a task of the run was last seen running, and whether the message has been printed since
    started = last_start(settings.home, "scheduler")
    while True:
        try:
            run = airflow.run(dag_id, run_id)
            if time.monotonic() > due:
                missing = _missing(settings, "scheduler") if airflow.scheduler_silence() > BEAT_SECONDS else ""
                due = time.monotonic() + CHECK_SECONDS
        except AirflowAwayError:
            if last_start(settings.home, "api-server") is None:  # it runs on another machine: its state is unknown here
                raise
            missing = _missing(settings, "api-server")
        else:
            yield run
            if run.ended:
                return
            if any(task.state == "running" for task in run.tasks):
                ran, told = time.monotonic(), False
            elif not told and time.monotonic() - ran > TURN_SECONDS and any(task.state == "scheduled" for task in run.tasks):
                say("the run waits for other runs: only one run trains or measures at a time")
                told = True
        if missing != waiting:
            say(missing or "all processes of Airflow are up again")
            waiting = missing
        if (start := last_start(settings.home, "scheduler")) != started:
            say("the scheduler was restarted: its running tasks are retried within a minute")
            started = start
        time.sleep(POLL_SECONDS)


def _missing(settings: Settings, name: str) -> str:
    """Return the message about one of Airflow's processes that does not answer."""
    if last_start(settings.home, name) is None:
        return f"the run waits for the {name}: it sends no heartbeat"
    found = next(process for process in lifecycle.status(settings) if process.name == name)
    try:
        check_room(settings.home)
    except WindtunnelError as error:  # on a full disk the scheduler ends, or goes on and does nothing
        raise WindtunnelError(f"the run waits for the {name}: {error}. Then call `windtunnel up`: the run continues") from error
    if found.up:
        return ""
    if found.state in ("failed", "down"):
        raise WindtunnelError(
            f"the run waits for the {name}, whose state is {found.state}: see {found.log}. Start it with `windtunnel up`: the run continues"
        )
    return f"the run waits for the {name}: {found.state}, {found.restarts} restarts, see {found.log}"
