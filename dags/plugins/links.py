"""Link a task's page in Airflow to what its run has elsewhere: its run in MLflow, its curves in TensorBoard, and the report.

Airflow finds this plugin by its entry point `airflow.plugins`. The API server asks it for the links whenever it shows a task, so they are
there while a task runs. The alternative, links that an operator declares, would be stored only at a task's end, by one request each.
"""

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.plugins_manager import AirflowPlugin

from dags.web import root_path

if TYPE_CHECKING:
    from windtunnel.run import Lineage, Run


class _Link(BaseOperatorLink):
    """A link of each task that runs a command, and of each approval."""

    @property
    def operators(self) -> list[type]:  # type: ignore[override]  # Airflow only reads it
        """The operators whose tasks have the link."""
        return _operators()

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the link; empty if there is nothing to link to yet."""
        from windtunnel.errors import WindtunnelError
        from windtunnel.run import Run
        from windtunnel.settings import load_settings, run_directory

        run = Run(run_directory(load_settings().home, ti_key.dag_id, ti_key.run_id))
        try:
            return self.url(run, run.lineage(), ti_key)
        except WindtunnelError:  # `conditions` has not ended yet, or there was nothing to train with
            return ""

    def url(self, run: "Run", lineage: "Lineage", ti_key: Any) -> str:
        """Return the link in a run that has conditions."""
        raise NotImplementedError


class MLflowRun(_Link):
    """The MLflow run of a task's framework when it has been trained; else that of the whole DAG run."""

    name = "MLflow run"

    def url(self, run: "Run", lineage: "Lineage", ti_key: Any) -> str:
        """Return the address of the MLflow run."""
        from windtunnel.settings import load_settings

        tracked = run.tracked(_framework(ti_key))
        identifier = tracked.read_text().strip() if tracked.is_file() else lineage.mlflow_run
        return f"{load_settings().published.mlflow_url}/#/runs/{quote(identifier)}"


class TensorBoard(_Link):
    """The curves of a task's framework, or of all frameworks of the run, as soon as one trains."""

    name = "TensorBoard"

    def url(self, run: "Run", lineage: "Lineage", ti_key: Any) -> str:
        """Return the address of TensorBoard with the run selected; empty if nothing has been trained."""
        from windtunnel.settings import load_settings

        framework = _framework(ti_key)
        versions = [run.version(name) for name in ([framework] if framework else lineage.frameworks)]
        if not any(version.exists() or version.with_name(f"{version.name}.partial").exists() for version in versions):
            return ""
        shown = quote(f"^{run.name.replace('.', '[.]')}/{framework}", safe="")  # a regular expression
        return f"{load_settings().published.tensorboard_url}/?runFilter={shown}#timeseries"


class Report(_Link):
    """The tab with the report on the run's page."""

    name = "Report"

    def url(self, run: "Run", lineage: "Lineage", ti_key: Any) -> str:
        """Return the path of the tab. Empty without a report."""
        if not run.html.is_file():
            return ""
        return f"{root_path()}/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}/plugin/report"


class Links(AirflowPlugin):
    """Adds the links to the pages of tasks."""

    name = "links"
    operator_extra_links = [MLflowRun(), TensorBoard(), Report()]  # noqa: RUF012  as Airflow declares it


@cache
def _operators() -> list[type]:
    """Return the operators that run commands in this installation. Every process of Airflow loads plugins, but few need these."""
    from dags.operators.approval import Approve
    from dags.operators.runtime import ProcessOperator
    from windtunnel.settings import load_settings

    if load_settings().runtime == "process":
        return [ProcessOperator, Approve]
    from dags.operators.containers import ContainerOperator, ServiceOperator

    return [ContainerOperator, ServiceOperator, Approve]


def _framework(ti_key: Any) -> str:
    """Return the framework of an instance of a mapped task, which is its name (dags/plugins/queues.py); empty for other tasks."""
    if ti_key.map_index < 0:
        return ""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = {"dag_id": ti_key.dag_id, "run_id": ti_key.run_id, "task_id": ti_key.task_id, "map_index": ti_key.map_index}
    with create_session() as session:
        found = session.scalar(select(TaskInstance).filter_by(**wanted))
        return (found.rendered_map_index if found else None) or ""
