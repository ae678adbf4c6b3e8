"""What Airflow will read, without a running Airflow; `tests/e2e` runs it: `test_lenet5.py` all of it, `test_approval.py` its wiring."""

from itertools import pairwise

import pytest

GROUPS = {
    "framework": ["train", "register"],
    "publication": ["publish", "verify"],
    "benchmark": ["measure", "record"],
    "release": ["gate", "approve", "promote", "fire_drill"],
}


@pytest.mark.parametrize(("runtime", "heavy"), [("process", []), ("docker", ["docker"]), ("swarm", ["docker"])])
def test_it_imports_in_under_a_second_and_no_framework(read_dag, runtime, heavy):
    dag = read_dag("lenet5", WINDTUNNEL_RUNTIME=runtime)
    assert dag["seconds"] < 1
    assert dag["heavy"] == heavy


def test_tasks_follow_each_other(read_dag):
    dag = read_dag("lenet5")
    groups = {group: [f"{group}.{task}" for task in tasks] for group, tasks in GROUPS.items()}
    mapped = [task for group, tasks in groups.items() if group != "benchmark" for task in tasks]
    within = {before: [after] for tasks in groups.values() for before, after in pairwise(tasks)}
    assert dag["downstream"] == {
        "conditions": ["framework.train"],
        "frameworks": sorted(mapped),
        **within,
        "framework.register": ["parity"],
        "parity": ["publication.publish"],
        "publication.verify": ["benchmark.measure", "watcher"],
        "benchmark.record": ["release.gate"],
        "release.fire_drill": ["report", "watcher"],
        "report": [],
        "watcher": [],
    }
    assert dag["rules"] == {
        "benchmark.measure": "all_done_min_one_success",  # what one framework's version is worth is not for another's to decide
        "release.gate": "none_failed",  # the benchmark can be left out
        "report": "all_done",
        "watcher": "none_failed",
    }
    # what is measured has the machine for itself
    assert {task: pool for task, pool in dag["pools"].items() if pool != "default_pool"} == {
        "framework.train": "measured",
        "benchmark.measure": "measured",
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
        "benchmark_seconds": 0.3,
        "speed_margin": 0.1,
        "speed_gate": False,
        "approve": False,
        "fire_drill": False,
    }
