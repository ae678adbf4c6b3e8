"""A person's approval before a version is promoted: Airflow's own operator, which a parameter of the run switches on."""

from pathlib import Path
from typing import Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator

from dags.operators.skipping import skip
from windtunnel.run import Run


class Approve(ApprovalOperator):
    """Show the comparison of challenger and champion, and wait for approval; if the parameter `approve` is off, succeed at once.

    The task's result is the name of the approver, or empty if no approval was needed. A rejection skips this task and those downstream.
    """

    template_fields = (*ApprovalOperator.template_fields, "run", "framework")

    def __init__(self, *, run: Any, framework: Any, **kwargs: Any) -> None:
        """`run` is the run's directory, which contains the gate's table for this framework."""
        super().__init__(subject="Promote this version?", **kwargs)
        self.run = run
        self.framework = framework

    def execute(self, context: Any) -> str:
        """Ask for approval, and release the worker until there is an answer."""
        if not context["params"]["approve"]:
            return ""
        self.subject = f"{self.framework}: {self.subject}"
        self.body = Run(Path(self.run)).gate(self.framework).with_suffix(".md").read_text("utf-8")
        # generate_link_to_ui of Airflow 3.3.2 returns a broken link for mapped tasks
        self.log.info("waiting for an answer at %s/required_actions", context["ti"].log_url.partition("?")[0])
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Continue with the answer."""
        return super().execute_complete(context, event)["responded_by_user"]["name"]

    def skip(self, ti: Any, tasks: Any) -> NoReturn:
        """Skip this task after a rejection, instead of the downstream `tasks`: in a mapped task group Airflow 3.3.2 runs them anyway."""
        skip(ti, f"rejected by {self.hitl_summary_extra['responded_by_user']['name']}")
