"""Show the report of a run in a tab on the run's page in Airflow. Airflow finds this plugin by its entry point `airflow.plugins`.

Every process of Airflow loads the plugins, but only the API server needs more than their names. Therefore the modules for the page are
imported late.
"""

from functools import cached_property
from html import escape
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from dags.web import headers

PREFIX = "/windtunnel/reports"

# A report is written by a run's programs and shown to users who are logged in: whatever it contains, it must not load or run anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; frame-ancestors 'self'"
HEADERS = headers(POLICY)

NO_REPORT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>No report</title>
<p style="font: 16px system-ui, sans-serif; margin: 2em">Run {run} of {dag} has no report yet: its last task writes it.
"""


class Reports(AirflowPlugin):
    """Adds a tab `Report` to the page of each run, and the page that it shows."""

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
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The FastAPI application that serves the reports."""
        return [{"name": self.name, "app": application(), "url_prefix": PREFIX}]


def application() -> Any:
    """Return an application that serves `/DAG/RUN`: the report of a run, or a page that says that there is none.

    The user must be logged in and have permission to read the DAG's runs.
    """
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
        if not file.is_file() or file.resolve() != file:  # with `..` or a link it would be another file
            page = NO_REPORT.format(dag=escape(dag_id), run=escape(run_id))
            return HTMLResponse(page, status_code=404, headers=HEADERS)
        return FileResponse(file, media_type="text/html", headers=HEADERS)

    return app
