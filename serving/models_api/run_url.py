"""Where Airflow shows a run."""

from urllib.parse import quote


def run_url(dag_id: str, run_id: str | None) -> str | None:
    """Return the path of a run's page, relative to Airflow's root; None without an id."""
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}" if run_id else None
