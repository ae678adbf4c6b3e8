"""The command line's client of Airflow's REST API.

The speech server has a second client (serving/speech_server/feedback/retraining.py). That one is asynchronous, because it must not block
the server's event loop, and because a thread that waits for an answer cannot be cancelled when the server stops. Both clients use the
functions in this module that describe requests and do no I/O.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from windtunnel.errors import WindtunnelError
from windtunnel.log_groups import CLOSING, OF_AIRFLOW, OPENING
from windtunnel.model import declarations
from windtunnel.platform.secrets import USER, airflow_password
from windtunnel.settings import Settings
from windtunnel.waiting import wait_until

POLL_SECONDS = 1.0
DECLARED = "declared.py"  # makes the DAGs of the models that have no DAG file of their own
WRONG = "wrong_declarations.py"  # its import error tells why some of them have no DAG
PARSE_SECONDS = 300  # until Airflow has read a new DAG file on a busy machine
RESULT = "Result: "  # begins the line of a run's note that `note_result` writes
NOTE_LENGTH = 1000  # Airflow allows no more
POOL = {"name": "measured", "slots": 1, "description": "Training and benchmarks, one at a time", "include_deferred": False}
ANSWER_SECONDS = 90.0
"""Longer than Airflow's database timeout (windtunnel/platform/environment.py), so that the client receives Airflow's own error."""


class AirflowAwayError(WindtunnelError):
    """Airflow does not answer."""


@dataclass(frozen=True)
class Task:
    """A task of a run; of a mapped task, one task instance. `seconds` is how long it ran or has been running."""

    name: str
    state: str
    seconds: float | None
    url: str
    log_path: str | None

    @property
    def failed(self) -> bool:
        """Whether the task itself failed, not a task upstream of it."""
        return self.state == "failed"


@dataclass(frozen=True)
class DagRun:
    """The state of a run and its tasks at one moment."""

    dag_id: str
    run_id: str
    state: str
    tasks: tuple[Task, ...]
    url: str

    @property
    def ended(self) -> bool:
        """Whether the run has succeeded or failed."""
        return self.state in ("success", "failed")


def token_request(user: str, password: str) -> dict[str, Any]:
    """Return the request that logs in."""
    return {"method": "POST", "path": "/auth/token", "json": {"username": user, "password": password}}


def authorization(reply: dict[str, Any]) -> dict[str, str]:
    """Return the header for all later requests, from the reply to `token_request`."""
    return {"Authorization": f"Bearer {reply['access_token']}"}


def runs_path(dag_id: str) -> str:
    """Return the API path of a DAG's runs."""
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns"


def run_request(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Return the request that triggers a run with the parameters `conf`. The reply's `dag_run_id` is the run id."""
    return {"method": "POST", "path": runs_path(dag_id), "json": {"logical_date": None, "conf": conf}}


class Airflow:
    """A client of the platform's Airflow, logged in as administrator. Use `http` for requests that have no method here."""

    def __init__(self, settings: Settings) -> None:
        """Log in.

        Raises:
            WindtunnelError: Airflow does not answer, or rejects the password.
        """
        self._settings = settings
        self.http = httpx.Client(base_url=settings.airflow_url, timeout=ANSWER_SECONDS, trust_env=False)
        self.http.headers.update(authorization(self._request(**token_request(USER, airflow_password(settings)))))

    def ensure_pool(self) -> None:
        """Create the pool of training and benchmarks if it does not exist.

        It lets one task run at a time, because these tasks share the machine and their times are compared.
        """
        known = self._request("GET", "/api/v2/pools", params={"limit": 1000})["pools"]
        if POOL["name"] not in (pool["name"] for pool in known):
            self._request("POST", "/api/v2/pools", json=POOL)

    def params(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """Return the JSON schema of each parameter of a DAG. Wait if Airflow has not read the DAG's file yet.

        Raises:
            WindtunnelError: there is no such DAG, its file cannot be imported, or it is paused.
        """
        details = wait_until(lambda: self._details(dag_id), PARSE_SECONDS, POLL_SECONDS)
        if details is None:
            raise self._unknown(dag_id)
        if details["is_paused"]:
            raise WindtunnelError(
                f"DAG {dag_id} is paused, its runs would not start: unpause it at {self._settings.published.airflow_url}/dags/{dag_id}"
            )
        return {name: param["schema"] for name, param in details["params"].items()}

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a run with the parameters `conf` and return its run id.

        Raises:
            WindtunnelError: the DAG does not allow one of the values.
        """
        return self._request(**run_request(dag_id, conf))["dag_run_id"]

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return the current state of a run."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        state = self._request("GET", f"/api/v2{path}")["state"]
        tasks = self._request("GET", f"/api/v2{path}/taskInstances", params={"limit": 1000})["task_instances"]
        url = f"{self._settings.published.airflow_url}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        rendered = [task for task in tasks if task["rendered_map_index"] not in (None, str(task["map_index"]))]
        names = {(_group(task), task["map_index"]): task["rendered_map_index"] for task in rendered}
        return DagRun(dag_id, run_id, state, tuple(_task(task, names, path, url) for task in sorted(tasks, key=_order)), url)

    def scheduler_silence(self) -> float:
        """Return the seconds since the scheduler's last heartbeat."""
        heartbeat = self._request("GET", "/api/v2/monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
        return (datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds() if heartbeat else math.inf

    def log(self, task: Task) -> list[str]:
        """Return the lines that a task has logged in its last try, without groups and without the lines that Airflow adds."""
        if task.log_path is None:
            return []
        events = self._request("GET", f"/api/v2{task.log_path}", missing={"content": []})["content"]
        lines: list[str] = []
        groups: list[str] = []
        for event in events:
            text = event["event"]
            if text.startswith(OPENING):
                groups.append(text.removeprefix(OPENING))
            elif text.startswith(CLOSING):
                del groups[-1:]
            elif not set(groups).intersection(OF_AIRFLOW):
                lines += [text, *(f"{detail['exc_type']}: {detail['exc_value']}" for detail in event.get("error_detail", []))]
        return lines

    def note_result(self, dag_id: str, run_id: str, result: str) -> None:
        """Write a run's result into its note, in place of an earlier one. What a user wrote there stays."""
        path = f"{runs_path(dag_id)}/{quote(run_id, safe='')}"
        written = (self._request("GET", path)["note"] or "").splitlines()
        kept = [line for line in written if not line.startswith(RESULT)]
        self._request("PATCH", path, json={"note": "\n".join([*kept, f"{RESULT}{result}"])[:NOTE_LENGTH]})

    def _details(self, dag_id: str) -> dict[str, Any] | None:
        """Return Airflow's details of a DAG; None if Airflow has not read the DAG's file yet."""
        details = self._request("GET", f"/api/v2/dags/{quote(dag_id, safe='')}/details", missing=None)
        if details is None:
            naming = re.compile(rf"""(['"]){re.escape(dag_id)}\1|\bdef {re.escape(dag_id)}\(""")
            coming = [file for file in self._settings.dags.rglob("*.py") if naming.search(file.read_text(errors="replace"))]
            if dag_id in (*declarations().models, *declarations().problems):
                coming += [file for name in (DECLARED, WRONG) for file in self._settings.dags.glob(name)]
            for problem in self._request("GET", "/api/v2/importErrors")["import_errors"]:
                reason = problem["stack_trace"].strip().splitlines()[-1]
                of_others = problem["filename"] == WRONG and dag_id not in reason
                if self._settings.dags / problem["filename"] in coming and not of_others:
                    raise WindtunnelError(f"{problem['filename']} cannot be imported: {reason}")
            if not coming:
                raise self._unknown(dag_id)
        return details

    def _unknown(self, dag_id: str) -> WindtunnelError:
        known = ", ".join(sorted(dag["dag_id"] for dag in self._request("GET", "/api/v2/dags")["dags"]))
        return WindtunnelError(f"there is no DAG {dag_id!r} in {self._settings.dags}. Choose one of: {known or 'none'}")

    def _request(self, method: str, path: str, missing: Any = ..., **arguments: Any) -> Any:
        """Send a request and return the JSON of the reply. If `missing` is given, return it for status 404."""
        reply = self._send(method, path, **arguments)
        if reply.status_code == httpx.codes.NOT_FOUND and missing is not ...:
            return missing
        if reply.is_error:
            raise WindtunnelError(f"Airflow: {_problem(reply)}")
        try:
            return reply.json()
        except ValueError as error:
            what = f"{self._settings.airflow_url} is not Airflow: found {reply.text[:40]!r} at {path}, expected JSON"
            raise WindtunnelError(f"{what}. Another program uses Airflow's port; see `windtunnel status`") from error

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self.http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            url = self._settings.airflow_url
            raise AirflowAwayError(
                f"Airflow at {url} does not answer ({error}): check `windtunnel status`, start it with `windtunnel up`"
            ) from error


def _problem(reply: httpx.Response) -> str:
    """Return the first line of the server's error message."""
    try:
        return str(reply.json()["detail"]).splitlines()[0]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase} for {reply.request.url.path}"


def _order(task: dict[str, Any]) -> tuple[Any, ...]:
    """Sort upstream tasks first: the priority weight of a task counts the tasks downstream of it."""
    return (-(task["priority_weight"] or 0), task["task_id"], task["map_index"])


def _seconds(task: dict[str, Any]) -> float | None:
    if task["duration"] is not None or task["start_date"] is None:
        return task["duration"]
    return (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()


def _group(task: dict[str, Any]) -> str:
    """Return the task group of a task; the task's own id if it is in none."""
    return task["task_id"].rpartition(".")[0] or task["task_id"]


def _task(task: dict[str, Any], names: dict[tuple[str, int], str], path: str, run_url: str) -> Task:
    """Make a `Task`. `names` are the names of the mapped instances in each group: a skipped instance has no rendered name of its own."""
    mapped = task["map_index"] >= 0
    index = names.get((_group(task), task["map_index"]), task["map_index"])
    log = f"{path}/taskInstances/{quote(task['task_id'])}/logs/{task['try_number']}?map_index={task['map_index']}"
    return Task(
        name=f"{task['task_id']}[{index}]" if mapped else task["task_id"],
        state=task["state"] or "waiting",
        seconds=_seconds(task),
        url=f"{run_url}/tasks/{quote(task['task_id'])}" + (f"/mapped/{task['map_index']}" if mapped else ""),
        log_path=log if task["try_number"] else None,
    )
