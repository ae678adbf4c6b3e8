"""Frameworks train on the queues that the settings name, as Airflow's own database has it."""

import json
import os
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)

RUN = """
import json, sys
from dags.lenet5 import parity

run = parity.dag.test(run_conf=json.loads(sys.argv[1]), mark_success_pattern="(?!frameworks$|framework.train$).*")
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from sqlalchemy import select

found = []
with create_session() as session:
    for kind in (TaskInstanceHistory, TaskInstance):
        for each in session.scalars(select(kind).where(kind.run_id == run.run_id)):
            found.append([each.task_id, each.map_index, each.try_number, each.queue])
print("FOUND" + json.dumps(found))
"""


@pytest.fixture
def run(tmp_path):
    """Runs the DAG with these frameworks, where `train` finds no spec and fails twice, and says each try's queue."""
    airflow = {"AIRFLOW_HOME": tmp_path, "AIRFLOW__CORE__DAGS_FOLDER": ROOT / "dags", "WINDTUNNEL_HOME": tmp_path / "home"}
    environment = os.environ | {name: str(value) for name, value in airflow.items()} | {"PYTHONPATH": str(ROOT)}

    def run(frameworks, **queues):
        told = environment | {"WINDTUNNEL_QUEUES": json.dumps(queues), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
        for command in (["-m", "airflow", "db", "migrate"], ["-c", RUN, json.dumps({"frameworks": frameworks})]):
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=told, timeout=PATIENCE)
            assert done.returncode == 0, done.stdout + done.stderr
        return {tuple(each[:3]): each[3] for each in json.loads(done.stdout.partition("FOUND")[2])}

    return run


def test_each_framework_trains_on_its_queue_and_is_tried_again_there(run):
    queues = run(["tensorflow", "libtorch"], tensorflow="big")
    for attempt in (1, 2):
        assert [queues["framework.train", copy, attempt] for copy in range(2)] == ["big", "default"]
    assert {queue for (task, *_), queue in queues.items() if task != "framework.train"} == {"default"}
