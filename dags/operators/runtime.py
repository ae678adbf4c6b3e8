"""Make a task that runs a command, independent of how it runs.

`WINDTUNNEL_RUNTIME` decides: `process` runs the command as a process on this machine, `docker` in a container, `swarm` as a service.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from dags.operators.skipping import skip
from windtunnel.run import SKIPPED
from windtunnel.settings import ROOT, load_settings


class ProcessOperator(BaseOperator):
    """Run a command as a process and write its output to the task's log. A missing XCom becomes an empty argument.

    Exit status 99 skips the task and the tasks downstream; the command's last line is the reason. Any other status but 0 fails the task.
    If the task is cancelled, the command and its child processes are terminated.
    """

    template_fields: Sequence[str] = ("command",)
    ui_color = "#d8e8f0"

    def __init__(self, *, command: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> None:
        """Run the command to its end. The task's log contains only the command's own lines."""
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
        # Not `with`: after a timeout, leaving it would wait for the command, which `on_kill` terminates only afterwards.
        for line in self._process.stdout or ():
            line = line.rstrip()
            self.log.info("%s", line)
        status = self._process.wait()
        if status == SKIPPED:
            skip(context["ti"], line)
        if status:
            raise AirflowException(f"{words[:3]} ended with status {status}: {line}")

    def on_kill(self) -> None:
        """Terminate the command's process group."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def program(module: str, *flags: Any, image: str | None = None, **task: Any) -> BaseOperator:
    """Return a task that runs `python -m MODULE FLAGS…`.

    Args:
        module: the module to run.
        flags: its arguments; each may be a template or an XCom.
        image: the image to run in if tasks run in containers; None: the one named like the module's top-level package.
        task: the usual arguments of an operator.
    """
    settings = load_settings()
    if settings.runtime == "process":
        return ProcessOperator(command=[sys.executable, "-m", module, *flags], **task)
    from dags.operators.containers import ContainerOperator, ServiceOperator  # imports Docker's client, which processes do not need

    operator = ContainerOperator if settings.runtime == "docker" else ServiceOperator
    return operator(command=["python", "-m", module, *flags], image=image or module.partition(".")[0], settings=settings, **task)
