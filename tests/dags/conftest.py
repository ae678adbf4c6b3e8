import json
import os
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT

READ = """
import importlib, json, sys
import airflow.sdk
before = set(sys.modules)
module = importlib.import_module("dags." + sys.argv[1])
dags = {each.dag_id: each for each in vars(module).values() if isinstance(each, airflow.sdk.DAG)}
if sys.argv[2] not in dags:
    sys.exit(f"there are {sorted(dags)}")
dag = dags[sys.argv[2]]
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "heavy": sorted({"torch", "tensorflow", "mlflow", "docker"} & set(sys.modules)),
    "schedule": str(getattr(dag.schedule, "expression", dag.schedule)),
    "downstream": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "rules": {task.task_id: task.trigger_rule for task in dag.tasks if task.trigger_rule != "all_success"},
    "retries": {task.task_id: task.retries for task in dag.tasks},
    "outlets": {task.task_id: [each.name for each in task.outlets] for task in dag.tasks if task.outlets},
    "pools": {task.task_id: task.pool for task in dag.tasks},
    "params": dag.params.dump(),
    "forms": {name: {**found.schema, "description": found.description} for name in dag.params for found in [dag.params.get_param(name)]},
    "conditions": dag.get_task("conditions").command if dag.has_task("conditions") else None,
    "choices": dag.params.get_param("frameworks").schema["items"]["enum"] if "frameworks" in dag.params else None,
    "runs": dag.max_active_runs,
    "doc": dag.doc_md,
    "names": {task.task_id: task.task_display_name for task in dag.tasks},
    "docs": {task.task_id: task.doc_md for task in dag.tasks},
    "groups": {name: group.group_display_name for name, group in dag.task_group.get_task_group_dict().items() if name},
    "owners": sorted({task.owner for task in dag.tasks}),
    "tags": sorted(dag.tags),
    "callbacks": sorted(task.task_id for task in dag.tasks if task.on_success_callback and task.on_failure_callback),
}))
"""


@pytest.fixture(scope="session")
def read_dag(tmp_path_factory):
    """Imports a DAG's file in a fresh interpreter, as Airflow does, and says what is in it."""

    def read(name, dag=None, **variables):
        environment = os.environ | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PYTHONPATH": str(ROOT)} | variables
        done = subprocess.run([sys.executable, "-c", READ, name, dag or name], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read
