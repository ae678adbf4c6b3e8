"""Retraining: when enough suggestions wait, Airflow is asked to run the DAG that trains with them.

What has been tried, and what came of it, Airflow remembers: never are there two runs at once, nor two tries within a minute, and after
each failure the pause doubles, also when this server is started again.
"""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from serving.speech.config import Config
from serving.speech.suggestions import Suggestions
from windtunnel.errors import WindtunnelError

_log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
REMEMBERED = 10  # runs
ANSWER_SECONDS = 90.0  # longer than Airflow waits for its database
CONF = {"suggestions_needed": True, "baseline": False}
"""Parameters of the runs that are asked for."""


class Retraining:
    """Asks Airflow for runs."""

    def __init__(self, config: Config, suggestions: Suggestions) -> None:
        """Ask nothing yet; `config` names Airflow, the DAG, and how many suggestions are enough."""
        self._config, self._suggestions = config, suggestions
        self._tried: datetime | None = None

    async def follow(self) -> None:
        """Look whether enough suggestions wait, and ask for a run, for ever. What fails is said in the log, and tried again."""
        said = ""
        while True:
            try:
                if await self._enough() and self._tried_long_ago():
                    found = await self._ask()
                    if found and found != said:
                        _log.info("%s", found)
                    said = found
            except (WindtunnelError, httpx.HTTPError) as error:
                self._tried = datetime.now(UTC)
                _log.error("Airflow at %s was not asked to retrain: %s; asking again in a minute", self._config.airflow_url, error)
            await asyncio.sleep(POLL_SECONDS)

    async def _enough(self) -> bool:
        return await self._suggestions.waiting() >= self._config.samples_before_train

    def _tried_long_ago(self) -> bool:
        return self._tried is None or datetime.now(UTC) - self._tried > PAUSE

    async def _ask(self) -> str:
        """Ask for a run unless there is one, or was one just now; returns what was found, in a sentence."""
        runs_path = f"/api/v2/dags/{self._config.dag}/dagRuns"
        async with httpx.AsyncClient(base_url=str(self._config.airflow_url), timeout=ANSWER_SECONDS, trust_env=False) as http:
            http.headers["Authorization"] = f"Bearer {await self._log_in(http)}"
            runs = (await _json(http, "GET", runs_path, params={"order_by": "-run_after", "limit": REMEMBERED}))["dag_runs"]
            if running := [run["dag_run_id"] for run in runs if run["state"] in ("queued", "running")]:
                return f"suggestions wait for the end of run {running[0]}"
            if runs and (wait := pause(runs)) > datetime.now(UTC) - datetime.fromisoformat(runs[0]["run_after"]):
                return f"suggestions wait: the last run, {runs[0]['dag_run_id']}, {runs[0]['state']}, the next may begin {wait} after it"
            self._tried = datetime.now(UTC)
            begun = await _json(http, "POST", runs_path, json={"logical_date": None, "conf": CONF})
            return f"Airflow trains with the suggestions: run {begun['dag_run_id']} of {self._config.dag}"

    async def _log_in(self, http: httpx.AsyncClient) -> str:
        user = self._config.airflow_user
        password = await asyncio.to_thread(read_password, self._config.airflow_password_file, user)
        return (await _json(http, "POST", "/auth/token", json={"username": user, "password": password}))["access_token"]


def pause(runs: list[dict[str, Any]]) -> timedelta:
    """How long after its last run the next may begin: `PAUSE`, and twice as long after each failure in a row.

    Args:
        runs: with their `state`, the last one first.
    """
    failures = next((number for number, run in enumerate(runs) if run["state"] != "failed"), len(runs))
    return min(PAUSE * 2**failures, LONGEST_PAUSE)


def read_password(file: Path | None, user: str) -> str:
    """The password in a file: all of it, or what Airflow's own JSON of users and passwords says of the user.

    Raises:
        WindtunnelError: there is none.
    """
    if file is None:
        raise WindtunnelError("[Retraining] PasswordFile is missing: name the file that holds the password")
    try:
        text = file.read_text().strip()
    except OSError as error:
        raise WindtunnelError(f"[Retraining] PasswordFile {file} cannot be read ({error.strerror})") from error
    try:
        passwords = json.loads(text)
    except ValueError:
        return text
    if not isinstance(passwords, dict):
        return text
    if user not in passwords:
        raise WindtunnelError(f"[Retraining] PasswordFile {file} has no password of {user}: name another User")
    return passwords[user]


async def _json(http: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> Any:
    reply = await http.request(method, path, **arguments)
    if reply.is_error:
        raise WindtunnelError(f"{method} {path} ended with {reply.status_code}: {' '.join(reply.text.split())[:200]}")
    return reply.json()
