"""What Airflow stores for each copy of a mapped task: its names, and the Celery queue of the setting `queues`.

A policy of Airflow, found by its entry point `airflow.policy` (airflow/policies.py). All instances of a mapped task have the queue of the
task, and a number for a name until they start, unless a policy assigns others.
"""

from typing import Any

from airflow.policies import hookimpl

from dags.texts import TASKS
from windtunnel.model import models
from windtunnel.settings import load_settings

TRAIN = "framework.train"
GROUPS = ("framework", "publication", "release")  # are mapped over the frameworks (dags/lifecycle.py)


@hookimpl
def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Name an instance of a mapped task after its framework, and assign the framework's queue to `train`.

    Airflow calls this whenever it creates or loads an instance. While it creates one, there is no run and so no framework: it calls this
    again, with the run, before it stores the instance.
    """
    if dag_run is None or dag_run.dag_id not in models() or task_instance.map_index < 0:
        return
    group, _, task = task_instance.task_id.partition(".")
    if group not in GROUPS or task not in TASKS:
        return
    chosen = (dag_run.conf or {}).get("frameworks") or models()[dag_run.dag_id].default_frameworks
    framework = chosen[task_instance.map_index]
    task_instance._rendered_map_index = framework  # without this, a copy that has not started is called 0, 1, 2
    task_instance._task_display_property_value = TASKS[task][0]  # which Airflow 3.3.2 sets for the first copy only
    if task_instance.task_id == TRAIN:
        task_instance.queue = load_settings().queues.get(framework, task_instance.queue)
