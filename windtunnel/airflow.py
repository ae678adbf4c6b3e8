"""Airflow as the command line sees it: the REST API of its server."""

import json
import math
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from windtunnel.environment import USER, password_file
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

POLL_SECONDS = 1.0
PARSE_SECONDS = 300  # on a busy machine


class AirflowAwayError(WindtunnelError):
    """Airflow does not answer."""


@dataclass(frozen=True)
class Task:
    """One task of a run, or one of its copies where it is mapped. `seconds` is how long it ran, or has been running."""

    name: str
    state: str
    seconds: float | None
    url: str
    log_path: str | None

    @property
    def failed(self) -> bool:
        """It has failed itself, not only one it waits for."""
        return self.state == "failed"


@dataclass(frozen=True)
class DagRun:
    """A run and its tasks, as they are at one moment."""

    dag_id: str
    run_id: str
    state: str
    tasks: tuple[Task, ...]
    url: str

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in ("success", "failed")


class Airflow:
    """A client of the platform's Airflow, logged in as its administrator."""

    def __init__(self, settings: Settings) -> None:
        """Log in.

        Raises:
            WindtunnelError: it does not answer, or refuses the password.
        """
        self._settings = settings
        # longer than Airflow waits for its database (windtunnel/environment.py), so that its own error arrives
        self._http = httpx.Client(base_url=settings.airflow_url, timeout=90, trust_env=False)
        try:
            password = json.loads(password_file(settings).read_text())[USER]
        except (FileNotFoundError, NotADirectoryError):
            raise WindtunnelError(f"there is no platform in {settings.home}: start one with `windtunnel up`") from None
        except (ValueError, KeyError, TypeError) as error:
            file = password_file(settings)
            raise WindtunnelError(f"{file} holds no password of {USER} ({error!r}): remove it, and start the platform again") from error
        token = self._request("POST", "/auth/token", json={"username": USER, "password": password})["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Have a pool of that many slots: tasks in it wait for each other beyond that number."""
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        known = self._request("GET", "/api/v2/pools", params={"limit": 1000})["pools"]
        if name not in (pool["name"] for pool in known):
            self._request("POST", "/api/v2/pools", json=pool)

    def params(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """The JSON schema of each parameter a DAG takes. A DAG whose file is there but not yet read is waited for.

        Raises:
            WindtunnelError: there is no such DAG, or its file cannot be imported.
        """
        deadline = time.monotonic() + PARSE_SECONDS
        naming = re.compile(rf"""(['"]){re.escape(dag_id)}\1|\bdef {re.escape(dag_id)}\(""")
        while (details := self._request("GET", f"/api/v2/dags/{quote(dag_id, safe='')}/details", missing=None)) is None:
            coming = [file for file in self._settings.dags.rglob("*.py") if naming.search(file.read_text(errors="replace"))]
            for problem in self._request("GET", "/api/v2/importErrors")["import_errors"]:
                if self._settings.dags / problem["filename"] in coming:
                    raise WindtunnelError(f"{problem['filename']} cannot be imported: {problem['stack_trace'].strip().splitlines()[-1]}")
            if not coming or time.monotonic() > deadline:
                known = ", ".join(sorted(dag["dag_id"] for dag in self._request("GET", "/api/v2/dags")["dags"]))
                raise WindtunnelError(f"there is no DAG {dag_id!r} in {self._settings.dags}: there are {known or 'none'}")
            time.sleep(POLL_SECONDS)
        if details["is_paused"]:
            raise WindtunnelError(
                f"DAG {dag_id} is paused, a run would wait for ever: unpause it at {self._settings.published.airflow_url}/dags/{dag_id}"
            )
        return {name: param["schema"] for name, param in details["params"].items()}

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run with these parameters and return its run id.

        Raises:
            WindtunnelError: a value is outside what the DAG allows.
        """
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns"
        return self._request("POST", path, json={"logical_date": None, "conf": conf})["dag_run_id"]

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """A run as it is now."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        state = self._request("GET", f"/api/v2{path}")["state"]
        tasks = self._request("GET", f"/api/v2{path}/taskInstances", params={"limit": 1000})["task_instances"]
        url = f"{self._settings.published.airflow_url}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        rendered = [task for task in tasks if task["rendered_map_index"] not in (None, str(task["map_index"]))]
        names = {(_group(task), task["map_index"]): task["rendered_map_index"] for task in rendered}
        return DagRun(dag_id, run_id, state, tuple(_task(task, names, path, url) for task in sorted(tasks, key=_order)), url)

    def scheduler_silence(self) -> float:
        """Seconds since the last sign of life of the scheduler."""
        heartbeat = self._request("GET", "/api/v2/monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
        return (datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds() if heartbeat else math.inf

    def log(self, task: Task) -> list[str]:
        """What a task has logged so far in its last try, without what Airflow adds around it."""
        if task.log_path is None:
            return []
        events = self._request("GET", f"/api/v2{task.log_path}", missing={"content": []})["content"]
        lines = []
        depth = 0
        for event in events:
            text = event["event"]
            if text.startswith("::group::"):
                depth += 1
            elif text.startswith("::endgroup::"):
                depth -= 1
            elif depth == 0:
                lines += [text, *(f"{detail['exc_type']}: {detail['exc_value']}" for detail in event.get("error_detail", []))]
        return lines

    def _request(self, method: str, path: str, missing: Any = ..., **arguments: Any) -> Any:
        """The JSON of a reply; `missing`, if given, where the server knows no such thing."""
        reply = self._send(method, path, **arguments)
        if reply.status_code == httpx.codes.NOT_FOUND and missing is not ...:
            return missing
        if reply.is_error:
            raise WindtunnelError(f"Airflow: {_problem(reply)}")
        try:
            return reply.json()
        except ValueError as error:
            where = f"{self._settings.airflow_url} answers {path} with {reply.text[:40]!r}, which is not JSON as Airflow's"
            raise WindtunnelError(f"{where}: another program has its port; see `windtunnel status`") from error

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            url = self._settings.airflow_url
            raise AirflowAwayError(
                f"Airflow at {url} does not answer ({error}): see `windtunnel status`, start it with `windtunnel up`"
            ) from error


def _problem(reply: httpx.Response) -> str:
    """The first line of what the server says is wrong."""
    try:
        return str(reply.json()["detail"]).splitlines()[0]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase} for {reply.request.url.path}"


def _order(task: dict[str, Any]) -> tuple[Any, ...]:
    """Upstream first: a task's weight counts what waits for it."""
    return (-(task["priority_weight"] or 0), task["task_id"], task["map_index"])


def _seconds(task: dict[str, Any]) -> float | None:
    if task["duration"] is not None or task["start_date"] is None:
        return task["duration"]
    return (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()


def _group(task: dict[str, Any]) -> str:
    """The task group of a task, or itself outside of any."""
    return task["task_id"].rpartition(".")[0] or task["task_id"]


def _task(task: dict[str, Any], names: dict[tuple[str, int], str], path: str, run_url: str) -> Task:
    """`names` are those of the mapped copies in each group: one that was skipped has none of its own."""
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
