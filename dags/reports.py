"""The report of a run, in a tab of its own on the run's page in Airflow: a plugin, found by its entry point `airflow.plugins`.

Every process of Airflow loads its plugins, and only the API server needs more than their names: what the page takes is imported late.
"""

from functools import cached_property
from html import escape
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

PREFIX = "/windtunnel/reports"

# A report comes from a run's programs and is shown where people are logged in: whatever it holds, it loads and runs nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; frame-ancestors 'self'"
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}

NO_REPORT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>No report</title>
<p style="font: 16px system-ui, sans-serif; margin: 2em">There is no report of {run} of {dag}: the run's last task writes it.
"""


class Reports(AirflowPlugin):
    """A tab `Report` on the page of each run, and the page it shows."""

    name = "reports"
    external_views = [  # noqa: RUF012  as Airflow declares it
        {
            "name": "Report",
            "href": f"{PREFIX.removeprefix('/')}/{{DAG_ID}}/{{RUN_ID}}",  # relative: Airflow may be served below a path
            "destination": "dag_run",
            "url_route": "report",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The application that serves the reports."""
        return [{"name": self.name, "app": application(), "url_prefix": PREFIX}]


def application() -> Any:
    """Serves `/DAG/RUN` to who is logged in and may read the DAG's runs: the report in the run's directory, or else a page that says so."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI
    from fastapi.responses import FileResponse, HTMLResponse, Response

    from windtunnel.run import Run
    from windtunnel.settings import load_settings, run_directory

    app = FastAPI(openapi_url=None)
    home = load_settings().home.resolve()

    @app.get("/{dag_id}/{run_id}", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
    def report(dag_id: str, run_id: str) -> Response:
        file = Run(run_directory(home, dag_id, run_id)).html
        if not file.is_file() or file.resolve() != file:  # by `..` or a link it is another file, and nobody's report
            page = NO_REPORT.format(dag=escape(dag_id), run=escape(run_id))
            return HTMLResponse(page, status_code=404, headers=HEADERS)
        return FileResponse(file, media_type="text/html", headers=HEADERS)

    return app
