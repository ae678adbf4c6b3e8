"""Retraining: when enough suggestions wait, Airflow is asked for a run of the DAG that trains with them, or else a process here does it.

Never are there two at once, nor two tries within a minute, and after each failure in a row the pause doubles. Suggestions that a run
has claimed are waiting until it has settled them: if it is cut off, the next one takes them.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from serving.speech.config import Config
from serving.speech.suggestions import Suggestions
from windtunnel.errors import WindtunnelError
from windtunnel.problems import Problem
from windtunnel.run import SKIPPED

_log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
REMEMBERED = 10  # runs
ANSWER_SECONDS = 90.0  # longer than Airflow waits for its database
CONF = {"suggestions_needed": True, "baseline": False}
"""Parameters of the runs that are asked for."""


class Retraining(ABC):
    """Looks whether enough suggestions wait, and has the model retrained."""

    def __init__(self, config: Config, suggestions: Suggestions) -> None:
        """Begin nothing yet; `config` says how many suggestions are enough, and who retrains."""
        self._config, self._suggestions = config, suggestions
        self._next = datetime.now(UTC)  # before then nothing is tried

    async def follow(self) -> None:
        """Look, and have it retrained, for ever. What fails is said in the log, and tried again."""
        said, untrained = "", Problem(_log.error)
        while True:
            try:
                if datetime.now(UTC) >= self._next and await self._suggestions.waiting() >= self._config.samples_before_train:
                    self._next = datetime.now(UTC) + PAUSE
                    if (found := await self._try()) != said:
                        _log.info("%s", found)
                        said = found
                    untrained.is_over()
            except (WindtunnelError, httpx.HTTPError) as error:
                untrained.is_there(f"the model was not retrained: {error}")
            await asyncio.sleep(POLL_SECONDS)

    @abstractmethod
    async def _try(self) -> str:
        """Have it retrained, or find that it is too early; returns what was done, or found, in a sentence. May change `_next`."""


class AirflowRetraining(Retraining):
    """Asks Airflow for runs. What was tried, and what came of it, Airflow remembers: also when this server is started again."""

    async def _try(self) -> str:
        runs_path = f"/api/v2/dags/{self._config.dag}/dagRuns"
        async with httpx.AsyncClient(base_url=str(self._config.airflow_url), timeout=ANSWER_SECONDS, trust_env=False) as http:
            http.headers["Authorization"] = f"Bearer {await self._log_in(http)}"
            runs = (await _json(http, "GET", runs_path, params={"order_by": "-run_after", "limit": REMEMBERED}))["dag_runs"]
            if running := [run["dag_run_id"] for run in runs if run["state"] in ("queued", "running")]:
                return f"suggestions wait for the end of run {running[0]}"
            failures = next((number for number, run in enumerate(runs) if run["state"] != "failed"), len(runs))
            if runs and (earliest := datetime.fromisoformat(runs[0]["run_after"]) + pause(failures)) > datetime.now(UTC):
                self._next = earliest
                last = f"the last run, {runs[0]['dag_run_id']}, has the state {runs[0]['state']}"
                return f"suggestions wait until {earliest:%H:%M:%S} UTC: {last}"
            begun = await _json(http, "POST", runs_path, json={"logical_date": None, "conf": CONF})
            return f"Airflow trains with the suggestions: run {begun['dag_run_id']} of {self._config.dag}"

    async def _log_in(self, http: httpx.AsyncClient) -> str:
        user = self._config.airflow_user
        password = await asyncio.to_thread(read_password, self._config.airflow_password_file, user)
        return (await _json(http, "POST", "/auth/token", json={"username": user, "password": password}))["access_token"]


class LocalRetraining(Retraining):
    """Runs `serving.speech.local` as a process, which ends with this one."""

    def __init__(self, config: Config, suggestions: Suggestions) -> None:
        super().__init__(config, suggestions)
        self._failures = 0

    async def _try(self) -> str:
        began = datetime.now(UTC)
        _log.info("the model is retrained by a process beside this one")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.speech.local"), stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
        try:
            printed, _ = await process.communicate(self._config.model_dump_json().encode())
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
            raise
        said, failed = printed.decode(errors="replace").strip(), process.returncode not in (0, SKIPPED)
        self._failures = self._failures + 1 if failed else 0
        self._next = began + pause(self._failures)
        if failed:
            raise WindtunnelError(f"the process ended with status {process.returncode}: {said[-1000:]}")
        return f"retrained: {said}"


def retraining(config: Config, suggestions: Suggestions) -> Retraining:
    """Who retrains, as the configuration says."""
    return (LocalRetraining if config.airflow_url is None else AirflowRetraining)(config, suggestions)


def pause(failures: int) -> timedelta:
    """How long after a try the next may begin: `PAUSE`, and twice as long after each failure in a row."""
    return min(PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)


def read_password(file: Path | None, user: str) -> str:
    """The password in a file: all of it, or what Airflow's own JSON of users and passwords says of the user.

    Raises:
        WindtunnelError: there is none.
    """
    if file is None:
        raise WindtunnelError("[Retraining] PasswordFile is missing: name the file that holds the password")
    try:
        text = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"[Retraining] PasswordFile {file} cannot be read ({error}): write the password alone into it") from error
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
