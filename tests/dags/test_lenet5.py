"""What Airflow will read, without a running Airflow; `tests/e2e/shared` runs it: `test_lenet5.py` all, `test_approval.py` its wiring."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.dags.texts import check_texts
from train_server.conditions import parse_fields
from windtunnel.settings import ROOT

GROUPS = {
    "framework": ["train"],
    "publication": ["publish", "verify"],
    "release": ["gate", "approve", "promote", "fire_drill"],
}

RENDER = """
import json, sys
from datetime import UTC, datetime
from airflow.sdk.api.datamodels._generated import DagRun
from dags.lenet5 import dag

task = dag.get_task(sys.argv[1])
started = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)
unset = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key"))
state = {"run_type": "manual", "state": "running", "consumed_asset_events": []}
run = DagRun(dag_id="lenet5", run_id="manual__1", run_after=started, start_date=started, **state, **unset)
params = dag.params.dump() | json.loads(sys.argv[2])
task.render_template_fields({"dag": dag, "run_id": "manual__1", "dag_run": run, "params": params})
print(json.dumps(task.command))
"""

FIRST_RUN = """
from datetime import UTC, datetime
from airflow.serialization.serialized_objects import DagSerialization
from dags.lenet5 import dag

now = datetime.now(UTC)
read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
print((read.next_dagrun_info(last_automated_run_info=None).run_after - now).total_seconds())
"""


@pytest.mark.parametrize(("runtime", "heavy", "most"), [("process", [], 150), ("docker", ["docker"], 400), ("swarm", ["docker"], 400)])
def test_it_imports_little_and_no_framework(read_dag, runtime, heavy, most):
    dag = read_dag("lenet5", WINDTUNNEL_RUNTIME=runtime)
    assert len(dag["modules"]) < most  # Airflow reads the file again and again
    assert dag["heavy"] == heavy


def test_tasks_follow_each_other(read_dag):
    dag = read_dag("lenet5")
    groups = {group: [f"{group}.{task}" for task in tasks] for group, tasks in GROUPS.items()}
    mapped = [task for tasks in groups.values() for task in tasks]
    within = {before: [after] for tasks in groups.values() for before, after in pairwise(tasks)}
    assert dag["downstream"] == {
        "conditions": ["framework.train"],
        "frameworks": sorted(mapped),
        **within,
        "framework.train": ["parity"],
        "parity": ["publication.publish"],
        "publication.verify": ["measure", "watcher"],
        "measure": ["release.gate"],
        "release.fire_drill": ["report", "watcher"],
        "report": [],
        "watcher": [],
    }
    assert dag["rules"] == {
        "measure": "all_done_min_one_success",  # what one framework's version is worth is not for another's to decide
        "release.gate": "none_failed",  # the benchmark can be left out
        "report": "all_done",
        "watcher": "none_failed",
    }
    # what is measured has the machine for itself
    assert {task: pool for task, pool in dag["pools"].items() if pool != "default_pool"} == {
        "framework.train": "measured",
        "measure": "measured",
    }


def test_a_person_reads_what_it_does_and_what_is_asked(read_dag):
    dag = read_dag("lenet5")
    check_texts(dag)
    assert dag["groups"] == {
        "framework": "Train each framework",
        "publication": "Publish and verify",
        "release": "Release each version",
    }
    assert (dag["owners"], dag["tags"]) == (["windtunnel"], ["images", "release", "train"])
    sections = {name: form["section"] for name, form in dag["forms"].items()}
    assert [name for name, section in sections.items() if section == "Benchmark"] == ["benchmark_seconds", "speed_margin", "speed_gate"]
    assert [name for name, section in sections.items() if section == "Release"] == ["margin", "approve", "fire_drill"]


def test_the_links_to_the_documents_know_where_airflow_is_served(read_dag):
    dag = read_dag("lenet5", AIRFLOW__API__BASE_URL="https://example.com/team/airflow/")
    assert "](/team/airflow/windtunnel/docs/docs/training.md)" in dag["doc"]


def test_a_step_that_can_be_repeated_is_and_a_verdict_is_not(read_dag):
    dag = read_dag("lenet5")
    once = {task for task, retries in dag["retries"].items() if not retries}
    assert once == {"parity", "publication.verify", "release.fire_drill", "report"}


def test_promotion_alone_updates_assets(read_dag):
    assert read_dag("lenet5")["outlets"] == {"release.promote": ["champions"]}


def test_a_new_platform_waits_for_the_next_time_of_its_schedule(tmp_path):
    """Airflow's own default takes a time that is at most five minutes ago, or a tenth of the schedule's interval."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "WINDTUNNEL_SCHEDULE": "* * * * *"}
    done = subprocess.run([sys.executable, "-c", FIRST_RUN], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) <= 60


def test_the_schedule_is_a_setting(read_dag):
    assert read_dag("lenet5")["schedule"] == "0 0 1 * *"
    assert read_dag("lenet5", WINDTUNNEL_SCHEDULE="@weekly")["schedule"] == "0 0 * * 0"
    assert read_dag("lenet5", WINDTUNNEL_SCHEDULE="none")["schedule"] == "None"


def test_the_trigger_form_starts_at_the_reference_run(read_dag):
    assert read_dag("lenet5")["params"] == {
        "frameworks": ["libtorch", "pytorch", "tensorflow"],
        "dataset": "auto",
        "samples": None,
        "epochs": 5,
        "learning_rate": 0.01,
        "batch_size": 64,
        "schedule": "cosine",
        "seed": 1,
        "threads": 1,
        "margin": 0.005,
        "benchmark_seconds": 0.1,
        "speed_margin": 0.1,
        "speed_gate": False,
        "approve": False,
        "fire_drill": False,
    }


@pytest.fixture
def render(tmp_path):
    """The command of a task in a run with these parameters, without the interpreter."""

    def render(task, **params):
        environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "WINDTUNNEL_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-c", RENDER, task, json.dumps(params)]
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
        return json.loads(done.stdout.splitlines()[-1])[2:]

    return render


def test_the_report_is_told_when_the_run_started(render, tmp_path):
    command = render("report")
    assert command == ["train_server.reporting.report", "--run", f"{tmp_path}/runs/lenet5/manual__1", "--started", "1795867200.25"]


def test_the_conditions_are_told_what_was_chosen(render, tmp_path):
    command = render("conditions", frameworks=["pytorch", "native"], learning_rate=0.1 + 0.2, seed=2**63 - 1)
    assert command[:4] == ["train_server.conditions", "--run", f"{tmp_path}/runs/lenet5/manual__1", "--model"]
    assert command[4:9] == ["lenet5", "--dag-id", "lenet5", "--run-id", "manual__1"]
    assert command[9:13] == ["--frameworks", "pytorch,native", "--dataset", "auto"]
    assert command[13::2] == ["--param"] * 7
    assert parse_fields(command[14::2]) == {
        **{"epochs": 5, "learning_rate": 0.1 + 0.2, "batch_size": 64, "schedule": "cosine"},
        **{"seed": 2**63 - 1, "threads": 1},  # `samples` is left to the conditions
    }


def test_a_framework_of_another_package_can_be_chosen(read_dag, extension):
    dag = read_dag("lenet5", PYTHONPATH=f"{ROOT}{os.pathsep}{extension}")
    assert dag["params"]["frameworks"] == ["libtorch", "pytorch", "tensorflow", "numpy"]
    assert dag["choices"] == ["libtorch", "pytorch", "tensorflow", "native", "numpy"]
