"""One factory for "this command in this image": what a task runs, apart from how it is run.

`WINDTUNNEL_RUNTIME` decides: `process` runs the command on this machine, as a process; `docker` in a container; `swarm` as a service.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from airflow.providers.standard.hooks.subprocess import SubprocessHook
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

    def execute(self, context: Any) -> None:
        """Run the command to its end."""
        self._hook = SubprocessHook()
        result = self._hook.run_command(["" if word is None else str(word) for word in self.command], cwd=str(ROOT))
        if result.exit_code == SKIPPED:
            skip(context["ti"], result.output)
        if result.exit_code:
            raise AirflowException(f"{self.command[:3]} ended with status {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        """End the command's process group."""
        self._hook.send_sigterm()


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
