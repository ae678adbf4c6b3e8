"""Sign the version that a training task has registered. Airflow does it, because no trainer may see the private key."""

import json
from typing import Any

from windtunnel.run import Run
from windtunnel.settings import load_settings, run_directory


def signed(context: Any, result: None) -> None:
    """Sign the version of the framework that the command of a training task ends with: the task's `post_execute`.

    Which model and framework, and from which run, Airflow says, not the folder of the run, where trainers write. If it fails, so does the
    task: its next try finds the version, trained and registered, and signs it.
    """
    from windtunnel.model import find_model  # used by one task of many
    from windtunnel.signatures import sign_registered

    settings, dag_id, run_id = load_settings(), context["dag"].dag_id, context["run_id"]
    run, framework = Run(run_directory(settings.home, dag_id, run_id)), context["task"].command[-1]
    name, number = find_model(dag_id).registered_name(framework), json.loads(run.registered(framework).read_text())["version"]
    print(f"signed: {sign_registered(settings, name, number, run.version(framework), f'{dag_id}/{run_id}')}")
