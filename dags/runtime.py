"""One factory for "this command in this image": what a task runs, apart from how it is run.

`WINDTUNNEL_RUNTIME` decides: `process` runs the command on this machine, as a process; `docker` in a container; `swarm` as a service.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from windtunnel.run import SKIPPED
from windtunnel.settings import ROOT, load_settings


class ProcessOperator(BaseOperator):
    """Run a command as a process and pass its lines to the task's log. An XCom that is not there is an empty word.

    Exit status 99 skips the task, and what waits for it, for the reason in the command's last line; any other but 0 fails it.
    A task that is cancelled ends the command and what it started.
    """

    template_fields: Sequence[str] = ("command",)
    ui_color = "#d8e8f0"

    def __init__(self, *, command: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> None:
        """Run the command to its end. The task's log holds the command's own lines and nothing around them."""
        words = ["" if word is None else str(word) for word in self.command]
        self._process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        line = ""
        # Not `with`: where the task's time is up, leaving it would wait for the command, which `on_kill` ends only afterwards.
        for line in self._process.stdout or ():
            line = line.rstrip()
            self.log.info("%s", line)
        status = self._process.wait()
        if status == SKIPPED:
            skip(context["ti"], line)
        if status:
            raise AirflowException(f"{words[:3]} ended with status {status}: {line}")

    def on_kill(self) -> None:
        """End the command's process group."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def program(module: str, *flags: Any, **task: Any) -> BaseOperator:
    """A task that runs `python -m MODULE FLAGS…`; `task` are an operator's usual arguments. Partial flags may be templates or XComs.

    Where tasks run in containers, the module's package is the name of its image.
    """
    settings = load_settings()
    if settings.runtime == "process":
        return ProcessOperator(command=[sys.executable, "-m", module, *flags], **task)
    from dags.containers import ContainerOperator, ServiceOperator  # with Docker's client, which only they need

    operator = ContainerOperator if settings.runtime == "docker" else ServiceOperator
    return operator(command=["python", "-m", module, *flags], image=module.partition(".")[0], settings=settings, **task)


def skip(ti: Any, reason: str) -> NoReturn:
    """Skip the running task. The reason is in its log and, under Storage on its page, in the XCom `skipped`."""
    ti.xcom_push("skipped", reason)
    raise AirflowSkipException(reason)


def only_if(param: str) -> Callable[[Any], None]:
    """A `pre_execute` that skips its task in runs with this parameter off."""

    def check(context: Any) -> None:
        if not context["params"][param]:
            skip(context["ti"], f"the parameter {param} is off")

    return check
