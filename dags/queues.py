"""The queue a framework trains on: a policy of Airflow, which the setting `queues` switches on.

Airflow finds it by its entry point, `airflow.policy` (airflow/policies.py). A task instance of a mapped task group takes the queue
of its task, the same for all its copies, unless a policy gives it another.
"""

from typing import Any

from airflow.policies import hookimpl

from windtunnel.settings import load_settings
from windtunnel.spec import FRAMEWORKS

TRAIN = "framework.train"


@hookimpl
def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Give a copy of `train` its framework's queue, whenever Airflow makes one or takes one up again.

    Without a run, as while a copy is being made, there is nothing to go by: Airflow asks again, with the run, before it keeps the copy.
    """
    if dag_run is None or task_instance.task_id != TRAIN or task_instance.map_index < 0:
        return
    framework = (dag_run.conf or {}).get("frameworks", FRAMEWORKS)[task_instance.map_index]
    task_instance.queue = load_settings().queues.get(framework, task_instance.queue)
