"""One factory for "this command in this image": what a task runs, apart from how it is run.

`WINDTUNNEL_RUNTIME` decides: `process` runs the command on this machine, as a process.
"""

import sys
from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from windtunnel.settings import ROOT


class ProcessOperator(BaseOperator):
    """Run a command as a process and pass its lines to the task's log.

    The task fails if the command's exit status is not 0; a task that is cancelled ends the command and what it started.
    """

    template_fields: Sequence[str] = ("command",)
    ui_color = "#d8e8f0"

    def __init__(self, *, command: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = command

    def execute(self, context: Any) -> None:
        """Run the command to its end."""
        self._hook = SubprocessHook()
        result = self._hook.run_command([str(word) for word in self.command], cwd=str(ROOT))
        if result.exit_code:
            raise AirflowException(f"{self.command[:3]} ended with status {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        """End the command's process group."""
        self._hook.send_sigterm()


def program(module: str, *flags: Any, **task: Any) -> ProcessOperator:
    """A task that runs `python -m MODULE FLAGS…`; `task` are an operator's usual arguments. Partial flags may be templates or XComs."""
    return ProcessOperator(command=[sys.executable, "-m", module, *flags], **task)
