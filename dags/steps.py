"""Common parts of the DAGs: the directory of a run, shared parameters, and the tasks of a release."""

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Param

from dags.note import note_result
from dags.operators.runtime import program
from dags.texts import described
from dags.web import root_path
from windtunnel.metric import ACCURACY
from windtunnel.settings import load_settings, run_directory

POOL = "measured"  # has one slot: training and benchmarks share the machine, and their times are compared
RUN = ("--run", "{{ run_directory(dag.dag_id, run_id) }}")
WHO = "--who={{ dag_run.triggering_user_name or dag.dag_id }}"  # a run on a schedule has no user
NAMED = {"map_index_template": "{{ task.command[-1] }}"}  # a mapped task's framework is the last word of its command

OWNER = "windtunnel"  # of the models that this project declares
LARGEST = 2**63 - 1  # the largest integer of NumPy and C++: the trigger form rejects larger numbers and Infinity
TRAINING, BENCHMARK, RELEASING = ("Training", "Benchmark", "Release")
"""The sections of the trigger form."""

MARGIN = Param(
    ACCURACY.margin,
    title="Accuracy margin",
    type="number",
    minimum=0,
    maximum=1,
    section=RELEASING,
    description="How much less accurate than the champion a promoted version may be, 0 to 1. 0.005 is half a percentage point.",
)
APPROVE = Param(
    False,
    title="Ask for approval",
    type="boolean",
    section=RELEASING,
    description="Wait for a person's approval before a version is promoted.",
)
FIRE_DRILL = Param(
    False,
    title="Fire drill",
    type="boolean",
    section=RELEASING,
    description="After the release, publish a broken version and check that it is rejected.",
)


NOTED: dict[str, Any] = {"on_success_callback": note_result, "on_failure_callback": note_result}
"""The options of the task that writes a run's report."""


def common(owner: str, *tags: str) -> dict[str, Any]:
    """Return what the DAGs of all models have in common. `owner` is the package that declares the model."""
    return {
        "catchup": False,
        "tags": ["train", "release", *tags],
        "user_defined_macros": {"run_directory": lambda dag_id, run_id: run_directory(load_settings().home, dag_id, run_id)},
        "default_args": {"owner": owner, "retries": 1, "retry_delay": timedelta(seconds=5)},
    }


def docs_url(page: str) -> str:
    """Return the address of a page of `docs/`, such as `training.md#data-sets`, as the plugin `docs` serves it (dags/plugins/docs.py)."""
    return f"{root_path()}/windtunnel/docs/docs/{page}"


def step(verb: str, *flags: Any, name: Any, task: str | None = None, **options: Any) -> BaseOperator:
    """Return a task of one framework's release; `verb` is a command of `serving/release/tasks.py`, and by default the task's id."""
    return program("serving.release.tasks", verb, *RUN, *flags, "--framework", name, **described(task or verb), **options)
