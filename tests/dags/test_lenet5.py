"""What Airflow will read, without a running Airflow; `tests/e2e/test_lenet5.py` runs it."""

import json
import os
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT

READ = """
import json, sys, time
import airflow.sdk
start = time.perf_counter()
from dags.lenet5 import parity

seconds = time.perf_counter() - start
dag = parity.dag
print(json.dumps({
    "seconds": seconds,
    "heavy": sorted({"torch", "tensorflow", "mlflow"} & set(sys.modules)),
    "schedule": str(dag.schedule),
    "downstream": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "pools": {task.task_id: task.pool for task in dag.tasks},
    "params": dag.params.dump(),
}))
"""


@pytest.fixture
def read_dag(tmp_path):
    """Imports the DAG's file in a fresh interpreter, as Airflow does, and says what is in it."""

    def read(**variables):
        environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | variables
        done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read


def test_it_imports_in_under_a_second_and_no_framework(read_dag):
    dag = read_dag()
    assert dag["seconds"] < 1
    assert dag["heavy"] == []


def test_tasks_follow_each_other(read_dag):
    dag = read_dag()
    assert dag["downstream"] == {
        "conditions": ["framework.train"],
        "frameworks": ["framework.register", "framework.train"],
        "framework.train": ["framework.register"],
        "framework.register": ["parity"],
        "parity": ["report"],
        "report": [],
    }
    assert dag["pools"]["framework.train"] == "training"


def test_the_schedule_is_a_setting(read_dag):
    assert read_dag()["schedule"] == "@monthly"
    assert read_dag(WINDTUNNEL_SCHEDULE="@weekly")["schedule"] == "@weekly"
    assert read_dag(WINDTUNNEL_SCHEDULE="none")["schedule"] == "None"


def test_the_trigger_form_starts_at_the_reference_run(read_dag):
    assert read_dag()["params"] == {
        "frameworks": ["libtorch", "pytorch", "tensorflow"],
        "dataset": "auto",
        "samples": None,
        "epochs": 5,
        "learning_rate": 0.01,
        "batch_size": 64,
        "schedule": "cosine",
        "seed": 1,
        "threads": 1,
    }
