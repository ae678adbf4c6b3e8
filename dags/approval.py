"""A person's word before users get a version: Airflow's own approval, which a parameter of the run switches on."""

from pathlib import Path
from typing import Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator

from dags.runtime import skip
from windtunnel.run import Run


class Approve(ApprovalOperator):
    """Show a person how challenger and champion compare, and wait for approval; with the parameter `approve` off, pass at once.

    The task's result is who approved, empty where nobody was asked. A rejection skips the task and with it what waits for it.
    """

    template_fields = (*ApprovalOperator.template_fields, "run", "framework")

    def __init__(self, *, run: Any, framework: Any, **kwargs: Any) -> None:
        """`run` is the run's directory, with the gate's table for this framework in it."""
        super().__init__(subject="Let users get this version?", **kwargs)
        self.run = run
        self.framework = framework

    def execute(self, context: Any) -> str:
        """Ask, and leave the worker until there is an answer."""
        if not context["params"]["approve"]:
            return ""
        self.subject = f"{self.framework}: {self.subject}"
        self.body = Run(Path(self.run)).gate(self.framework).with_suffix(".md").read_text("utf-8")
        # generate_link_to_ui of Airflow 3.3.2 leads nowhere where the task is mapped
        self.log.info("waits for an answer at %s/required_actions", context["ti"].log_url.partition("?")[0])
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Go on with the answer."""
        return super().execute_complete(context, event)["responded_by_user"]["name"]

    def skip(self, ti: Any, tasks: Any) -> NoReturn:
        """After a rejection skip this task, not `tasks`, those after it: in a mapped task group Airflow 3.3.2 runs them all the same."""
        skip(ti, f"rejected by {self.hitl_summary_extra['responded_by_user']['name']}")
