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
dag = module.conditions.dag
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "heavy": sorted({"torch", "tensorflow", "mlflow", "docker"} & set(sys.modules)),
    "schedule": str(dag.schedule),
    "downstream": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "rules": {task.task_id: task.trigger_rule for task in dag.tasks if task.trigger_rule != "all_success"},
    "retries": {task.task_id: task.retries for task in dag.tasks},
    "outlets": {task.task_id: [each.name for each in task.outlets] for task in dag.tasks if task.outlets},
    "pools": {task.task_id: task.pool for task in dag.tasks},
    "params": dag.params.dump(),
    "runs": dag.max_active_runs,
    "doc": dag.doc_md,
}))
"""


@pytest.fixture(scope="session")
def read_dag(tmp_path_factory):
    """Imports a DAG's file in a fresh interpreter, as Airflow does, and says what is in it."""

    def read(name, **variables):
        environment = os.environ | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PYTHONPATH": str(ROOT)} | variables
        done = subprocess.run([sys.executable, "-c", READ, name], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read
