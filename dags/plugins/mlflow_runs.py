"""End in MLflow what a DAG run has left RUNNING there: a plugin, found by its entry point `airflow.plugins`.

A run's report ends its MLflow run, and a trainer its own. If a person ends the run in Airflow, there is no report, and a killed trainer
ends nothing. Airflow tells its listeners that a run has started or ended, in the API server if a person ended it, else in the scheduler;
both reach MLflow. Every process of Airflow loads the plugins, so what only these two need is imported late.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    import httpx
    from airflow.models.dagrun import DagRun

BY_HAND = "manually"  # is in Airflow's message if a person has ended the run
PROGRAMS_SECONDS = 30  # after which the programs of a run have ended that a person ended: Airflow terminates them within some 10 s
ANSWER_SECONDS = 5
PARENT = "mlflow.parentRunId"
EXPERIMENTS, RUNS = 1000, 20  # as many as are asked for at a time
PAUSE_SECONDS = 60  # after a request that failed: the scheduler does not wait for each run while MLflow is down

_paused_until = 0.0


class MLflowRuns(AirflowPlugin):
    """Makes this module a listener."""

    name = "mlflow_runs"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  as Airflow declares it


@hookimpl
def on_dag_run_running(dag_run: "DagRun", msg: str) -> None:
    """Continue the MLflow run of a run that was ended and starts again. End what could not be ended when its run ended."""
    from sqlalchemy.orm import object_session

    def work(mlflow: _MLflow) -> None:
        for run_id, tags in mlflow.runs("KILLED", dag_id=dag_run.dag_id, run_id=dag_run.run_id).items():
            if PARENT not in tags:
                mlflow.update(run_id, status="RUNNING")
        for run_id, tags in mlflow.runs("RUNNING").items():
            if _has_ended(object_session(dag_run), tags.get("dag_id"), tags.get("run_id")):
                mlflow.kill(run_id)

    _ask_mlflow(work)


@hookimpl
def on_dag_run_success(dag_run: "DagRun", msg: str) -> None:
    """End the run's MLflow runs."""
    _end(dag_run.dag_id, dag_run.run_id, msg)


@hookimpl
def on_dag_run_failed(dag_run: "DagRun", msg: str) -> None:
    """End the run's MLflow runs."""
    _end(dag_run.dag_id, dag_run.run_id, msg)


def _end(dag_id: str, run_id: str, msg: str) -> None:
    """End the MLflow runs of a run.

    When a person ends a run, its programs do not know it yet, and `conditions` may only now create the MLflow run: look again when they
    have ended. The API server's answer, and its transaction, do not wait for that. The scheduler must not have threads: its processes are
    forks.
    """
    if BY_HAND in msg:
        threading.Thread(target=_end_soon, args=(dag_id, run_id), name=f"end {run_id} in MLflow", daemon=True).start()
    else:
        _end_now(dag_id, run_id)


def _end_soon(dag_id: str, run_id: str) -> None:
    """End them once the transaction has ended, once the programs have, and once more in case that MLflow did not answer."""
    from airflow.utils.session import create_session

    for seconds in (1, PROGRAMS_SECONDS, 2 * PAUSE_SECONDS):
        time.sleep(seconds)
        with create_session() as session:
            if not _has_ended(session, dag_id, run_id):  # it was not ended after all, or was started again
                return
        _end_now(dag_id, run_id)


def _end_now(dag_id: str, run_id: str) -> None:
    def work(mlflow: _MLflow) -> None:
        for each in mlflow.runs("RUNNING", dag_id=dag_id, run_id=run_id):
            mlflow.kill(each)

    _ask_mlflow(work)


def _has_ended(session: Any, dag_id: str | None, run_id: str | None) -> bool:
    """Whether a run has ended. A run that Airflow does not know has not: it is of another platform, or no DAG run at all."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    return session.scalar(select(DagRun.state).filter_by(dag_id=dag_id, run_id=run_id)) in ("success", "failed")


class _MLflow:
    """Requests to MLflow's REST API. Its own client would cost the scheduler and the API server 80 MB of memory each."""

    def __init__(self, http: "httpx.Client") -> None:
        self._http = http

    def runs(self, status: str, **tags: str) -> dict[str, dict[str, str]]:
        """Return the tags of the runs with this status and these tags, by id."""
        wanted = [f"attributes.status = '{status}'", *(f"tags.{name} = '{value}'" for name, value in tags.items())]
        request = {"experiment_ids": self._experiments, "filter": " and ".join(wanted), "max_results": RUNS}
        found = self._ask("runs/search", **request).get("runs", [])
        return {run["info"]["run_id"]: {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])} for run in found}

    def update(self, run_id: str, **fields: Any) -> None:
        self._ask("runs/update", run_id=run_id, **fields)

    def kill(self, run_id: str) -> None:
        self.update(run_id, status="KILLED", end_time=int(time.time() * 1000))

    @cached_property
    def _experiments(self) -> list[str]:
        return [each["experiment_id"] for each in self._ask("experiments/search", max_results=EXPERIMENTS).get("experiments", [])]

    def _ask(self, path: str, **fields: Any) -> Any:
        return self._http.post(f"/{path}", json=fields).raise_for_status().json()


def _ask_mlflow(work: Callable[[_MLflow], None]) -> None:
    """Connect to MLflow. If it does not answer, log that and leave it in peace: the start of a later run makes up for it."""
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    import httpx

    from windtunnel.settings import load_settings

    url = load_settings().mlflow_url
    try:
        with httpx.Client(base_url=f"{url}/api/2.0/mlflow", timeout=ANSWER_SECONDS, trust_env=False) as http:
            work(_MLflow(http))
    except httpx.HTTPError as error:
        _paused_until = time.monotonic() + PAUSE_SECONDS
        problem = "a request to MLflow at %s failed (%s): what ended runs left RUNNING there is ended when the next run starts"
        logging.getLogger(__name__).warning(problem, url, error)
