"""Write the result of a run into its note, which Airflow's list of runs shows."""

import json
import logging
from typing import Any

from windtunnel.run import Run
from windtunnel.settings import load_settings, run_directory


def note_result(context: Any) -> None:
    """Write the sentence of a run's report into the run's note: a callback of the task that writes the report.

    The Task SDK of Airflow 3.3.2 cannot write a note, so this uses the REST API, with the platform's own login. In containers it runs on
    the worker, which mounts the login; the command's own container does not.
    """
    from windtunnel.errors import WindtunnelError
    from windtunnel.platform.airflow import Airflow  # imports the HTTP client, which DAG files do not need

    dag_id, run_id, settings = context["dag"].dag_id, context["run_id"], load_settings()
    report = Run(run_directory(settings.home, dag_id, run_id)).report
    if not report.exists():
        return
    try:
        Airflow(settings).note_result(dag_id, run_id, json.loads(report.read_text())["sentence"])
    except WindtunnelError as error:
        logging.getLogger(__name__).warning("the run's note could not be written: %s", error)
