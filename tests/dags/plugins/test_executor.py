"""The executor without a scheduler around it: when it waits, and what is imported before it forks. Tests of tests/e2e run tasks by it."""

import json
import os
import subprocess
import sys

import pytest

from windtunnel.settings import ROOT

RUN = """
import gc, json, sys
from types import SimpleNamespace
from dags.plugins import executor

class Clock:
    now = 0.0
    end = None  # when a task ends

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.end is not None and self.now >= self.end:
            self.end = None
            quiet.result_queue.put(("task", "success", None))

clock = executor.time = Clock()

class Fork(executor.QuietExecutor):
    def _spawn_worker(self):
        self.before = {name for name in sys.modules}

quiet = Fork(parallelism=1)
quiet.start()
frozen = gc.get_freeze_count() / (gc.get_freeze_count() + len(gc.get_objects()))

def look(count=1):
    # the seconds that each of so many looks has waited
    waited = []
    for _ in range(count):
        clock.now += 0.1
        before = clock.now
        quiet.sync()
        waited.append(round(clock.now - before, 2))
    return waited

found = {"frozen": frozen, "at first": look(15)}
look(10)
found["idle"] = look(100)
quiet.queued_tasks["task"] = SimpleNamespace(key="task")
quiet._process_workloads([quiet.queued_tasks["task"]])
found["after a task has begun"] = look(15)
look(10)
found["while it runs"] = look(20)
clock.end = clock.now + 0.5
found["when it ends"] = look(16)
look(10)
found["after the last"] = look(100)

from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
before = quiet.before
found["errors"] = bag.import_errors
found["read"] = sorted(bag.dags)
found["imported by tasks"] = sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ("dags", "windtunnel"))
found["packages"] = sorted({name.split(".")[0] for name in set(sys.modules) - before})
found["runner"] = "airflow.sdk.execution_time.task_runner" in before
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RUN, str(ROOT / "dags/lenet5.py")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("FOUND")[2])


def test_it_waits_for_a_second_at_each_look_where_nothing_happens(found):
    waits = [*found["idle"], *found["while it runs"], *found["after the last"]]
    assert set(waits) <= {1.0, 1.2}


def test_it_never_waits_where_a_task_has_begun_or_ended_and_the_next_may_be_to_come(found):
    assert {*found["at first"], *found["after a task has begun"], *found["when it ends"][1:]} == {0}


def test_it_waits_no_longer_when_a_task_ends(found):
    assert 0 < found["when it ends"][0] <= 0.7


def test_what_a_task_imports_is_there_before_its_process_is_forked(found):
    assert found["runner"]
    assert found["errors"] == {}
    assert found["read"] == ["lenet5"]
    assert found["imported by tasks"] == []


def test_the_collector_leaves_alone_what_the_forks_share(found):
    assert found["frozen"] > 0.99
