"""What Airflow will read, without a running Airflow; `tests/e2e/shared` runs it: `test_lenet5.py` all, `test_approval.py` its wiring."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from windtunnel.settings import ROOT

GROUPS = {
    "framework": ["train"],
    "publication": ["publish", "verify"],
    "release": ["gate", "approve", "promote", "fire_drill"],
}

RENDER = """
import json
from datetime import UTC, datetime
from airflow.sdk.api.datamodels._generated import DagRun
from dags.lenet5 import report

started = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)
unset = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key"))
state = {"run_type": "manual", "state": "running", "consumed_asset_events": []}
run = DagRun(dag_id="lenet5", run_id="manual__1", run_after=started, start_date=started, **state, **unset)
report.render_template_fields({"dag": report.dag, "run_id": "manual__1", "dag_run": run})
print(json.dumps(report.command))
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


def test_a_step_that_can_be_repeated_is_and_a_verdict_is_not(read_dag):
    dag = read_dag("lenet5")
    once = {task for task, retries in dag["retries"].items() if not retries}
    assert once == {"parity", "publication.verify", "release.fire_drill", "report"}


def test_promotion_alone_updates_assets(read_dag):
    assert read_dag("lenet5")["outlets"] == {"release.promote": ["champions"]}


def test_the_schedule_is_a_setting(read_dag):
    assert read_dag("lenet5")["schedule"] == "@monthly"
    assert read_dag("lenet5", WINDTUNNEL_SCHEDULE="@weekly")["schedule"] == "@weekly"
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


def test_the_report_is_told_when_the_run_started(tmp_path):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "WINDTUNNEL_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True, env=environment, check=True)
    command = json.loads(done.stdout.splitlines()[-1])
    assert command[2:] == ["train_server.report", "--run", f"{tmp_path}/runs/lenet5/manual__1", "--started", "1795867200.25"]
