"""Retraining: when enough suggestions wait, start a run of the DAG that trains with them in Airflow, or retrain in a local process.

Never are there two retrainings at once, nor two tries within a minute, and after each failure in a row the pause doubles. Suggestions that
a run has claimed count as waiting until it has settled them; if the run is interrupted, the next one takes them.
"""

import asyncio
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

from serving.speech_server.feedback.suggestions import Suggestions
from serving.speech_server.ini_file import Config
from windtunnel.errors import WindtunnelError
from windtunnel.platform.airflow import ANSWER_SECONDS, authorization, run_request, runs_path, token_request
from windtunnel.platform.secrets import password_of
from windtunnel.problems import Problem
from windtunnel.run import SKIPPED

_log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
REMEMBERED = 10  # runs
CONF = {"suggestions_needed": True, "baseline": False}
"""Parameters of the runs that are started."""


class Retraining(ABC):
    """Checks whether enough suggestions wait, and retrains the model."""

    def __init__(self, config: Config, suggestions: Suggestions) -> None:
        """Initialise without starting. `config` says how many suggestions are enough, and what retrains."""
        self._config, self._suggestions = config, suggestions
        self._next = datetime.now(UTC)  # time of the earliest next try

    async def follow(self) -> None:
        """Check and retrain forever. Failures are logged and retried."""
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
        """Retrain, or find that it is too early; returns a sentence that says which. May change `_next`."""


class AirflowRetraining(Retraining):
    """Retrains with Airflow's runs. Airflow remembers tries and results, also when this server restarts."""

    async def _try(self) -> str:
        async with httpx.AsyncClient(base_url=str(self._config.airflow_url), timeout=ANSWER_SECONDS, trust_env=False) as http:
            http.headers.update(await self._log_in(http))
            newest = {"order_by": "-run_after", "limit": REMEMBERED}
            runs = (await _json(http, "GET", runs_path(self._config.dag), params=newest))["dag_runs"]
            if running := [run["dag_run_id"] for run in runs if run["state"] in ("queued", "running")]:
                return f"suggestions wait for the end of run {running[0]}"
            failures = next((number for number, run in enumerate(runs) if run["state"] != "failed"), len(runs))
            if runs and (earliest := datetime.fromisoformat(runs[0]["run_after"]) + pause(failures)) > datetime.now(UTC):
                self._next = earliest
                last = f"the last run, {runs[0]['dag_run_id']}, has the state {runs[0]['state']}"
                return f"suggestions wait until {earliest:%H:%M:%S} UTC: {last}"
            begun = await _json(http, **run_request(self._config.dag, CONF))
            return f"Airflow trains with the suggestions: run {begun['dag_run_id']} of {self._config.dag}"

    async def _log_in(self, http: httpx.AsyncClient) -> dict[str, str]:
        user = self._config.airflow_user
        password = await asyncio.to_thread(read_password, self._config.airflow_password_file, user)
        return authorization(await _json(http, **token_request(user, password)))


class LocalRetraining(Retraining):
    """Runs `serving.speech_server.feedback.local_retraining` as a child process, which ends with this one."""

    def __init__(self, config: Config, suggestions: Suggestions) -> None:
        super().__init__(config, suggestions)
        self._failures = 0

    async def _try(self) -> str:
        began = datetime.now(UTC)
        _log.info("a local process retrains the model")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.speech_server.feedback.local_retraining"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
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
    """Return what retrains, as configured."""
    return (LocalRetraining if config.airflow_url is None else AirflowRetraining)(config, suggestions)


def pause(failures: int) -> timedelta:
    """Return the pause between tries: `PAUSE`, doubled for each failure in a row."""
    return min(PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)


def read_password(file: Path | None, user: str) -> str:
    """Return the password in a file that contains only the password, or is Airflow's own JSON of users and passwords.

    Raises:
        WindtunnelError: there is none.
    """
    if file is None:
        raise WindtunnelError("[Retraining] PasswordFile is missing. Set it to the file that contains the password")
    try:
        text = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WindtunnelError(f"[Retraining] PasswordFile {file} cannot be read ({error}). Write only the password into it") from error
    try:
        return password_of(user, text)
    except (ValueError, TypeError):  # not Airflow's JSON, so the file contains only the password
        return text
    except KeyError:
        raise WindtunnelError(f"[Retraining] PasswordFile {file} has no password for {user}. Set another User") from None


async def _json(http: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> Any:
    reply = await http.request(method, path, **arguments)
    if reply.is_error:
        raise WindtunnelError(f"{method} {path} failed with {reply.status_code}: {' '.join(reply.text.split())[:200]}")
    return reply.json()
