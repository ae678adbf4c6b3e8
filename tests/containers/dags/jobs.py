"""A DAG of the tasks in JOBS, one after the other: `{"TASK": {"words": [...], "retries": ..., "settings": {...}}}`.

Run as a program it runs them. How they ended goes to RESULTS: `{"TASK": {"state": ..., "tries": ..., "error": ..., "skipped": ...}}`.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from airflow.sdk import DAG, TriggerRule, chain

from dags.operators.runtime import program

JOBS = json.loads(os.environ.get("JOBS", "{}"))
ERRORS = {}
DATE = datetime(2026, 1, 1, tzinfo=UTC)  # every run is the same to Airflow, which starts it anew


def note(context):
    ERRORS[context["ti"].task_id] = f"{type(context['exception']).__name__}: {context['exception']}"


with DAG("jobs", schedule=None, default_args={"retry_delay": timedelta(0), "on_failure_callback": note}):
    tasks = []
    for name, job in JOBS.items():
        with patch.dict(os.environ, job.get("settings", {})):
            options = {"retries": job.get("retries", 0), "trigger_rule": TriggerRule.ALL_DONE}
            tasks.append(program("train_server.job", *job["words"], task_id=name, **options))
    chain(*tasks)

if __name__ == "__main__":
    run = tasks[0].dag.test(logical_date=DATE, run_after=DATE)
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        skipped = {each.task_id: each.value for each in session.scalars(XComModel.get_many(run_id=run.run_id, key="skipped"))}
    ended = {each.task_id: {"state": each.state, "tries": each.try_number} for each in run.get_task_instances()}
    results = {name: each | {"error": ERRORS.get(name), "skipped": skipped.get(name)} for name, each in ended.items()}
    Path(os.environ["RESULTS"]).write_text(json.dumps(results))
