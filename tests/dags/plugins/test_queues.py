"""Copies of mapped tasks have the queues and names of their frameworks, as Airflow's own database has it."""

import json
import os
import subprocess
import sys

import pytest

from dags.texts import TASKS
from tests.dags.test_lenet5 import GROUPS
from tests.waiting import PATIENCE
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)

RUN = """
import json, sys
from dags.lenet5 import dag

run = dag.test(run_conf=json.loads(sys.argv[1]), mark_success_pattern=f"(?!{sys.argv[2]}).*")
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from sqlalchemy import select

found = []
with create_session() as session:
    for kind in (TaskInstanceHistory, TaskInstance):
        for each in session.scalars(select(kind).where(kind.run_id == run.run_id)):
            found.append([each.task_id, each.map_index, each.try_number, each.queue, each.rendered_map_index, each.task_display_name])
print("FOUND" + json.dumps(found))
"""


@pytest.fixture
def run(tmp_path):
    """Runs these tasks of the DAG with these frameworks, and says each try's queue and name. `train` finds no spec and fails twice."""
    airflow = {"AIRFLOW_HOME": tmp_path, "AIRFLOW__CORE__DAGS_FOLDER": ROOT / "dags", "WINDTUNNEL_HOME": tmp_path / "home"}
    environment = os.environ | {name: str(value) for name, value in airflow.items()} | {"PYTHONPATH": str(ROOT)}

    def run(frameworks, tasks, **queues):
        told = environment | {"WINDTUNNEL_QUEUES": json.dumps(queues), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
        for command in (["-m", "airflow", "db", "migrate"], ["-c", RUN, json.dumps({"frameworks": frameworks}), tasks]):
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=told, timeout=PATIENCE)
            assert done.returncode == 0, done.stdout + done.stderr
        return {tuple(each[:3]): tuple(each[3:]) for each in json.loads(done.stdout.partition("FOUND")[2])}

    return run


def test_each_framework_trains_on_its_queue_and_is_tried_again_there(run):
    found = run(["tensorflow", "libtorch"], "frameworks$|framework.train$", tensorflow="big")
    for attempt in (1, 2):
        assert [found["framework.train", copy, attempt][0] for copy in range(2)] == ["big", "default"]
    assert {queue for (task, *_), (queue, *_) in found.items() if task != "framework.train"} == {"default"}


def test_a_copy_that_has_not_started_has_the_name_of_its_framework_and_of_its_task(run):
    found = run(["tensorflow", "libtorch"], "frameworks$")
    copies = {(task, copy): names for (task, copy, _), (_, *names) in found.items() if copy >= 0}
    tasks = {f"{group}.{task}": TASKS[task][0] for group, tasks in GROUPS.items() for task in tasks}
    assert copies == {
        (task, copy): [framework, name] for task, name in tasks.items() for copy, framework in enumerate(("tensorflow", "libtorch"))
    }
