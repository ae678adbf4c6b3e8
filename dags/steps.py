"""What the DAGs have in common: where a run is, how good a version must be, and the steps of its release."""

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Param

from dags.runtime import program
from windtunnel.settings import load_settings, run_directory

POOL = "measured"  # has one slot: what trains and what is benchmarked share the machine, and their times are compared
RUN = ("--run", "{{ run_directory(dag.dag_id, run_id) }}")
NAMED = {"map_index_template": "{{ task.command[-1] }}"}  # a mapped task's framework is the last word of its command

LARGEST = 2**63 - 1  # what NumPy and C++ hold in an integer: larger numbers, and Infinity, are refused in the form
MARGIN = Param(
    0.005,
    type="number",
    minimum=0,
    maximum=1,
    description="How much less accurate than the champion is still promoted; 0.005 is half a percentage point.",
)

COMMON: dict[str, Any] = {
    "catchup": False,
    "tags": ["train"],
    "user_defined_macros": {"run_directory": lambda dag_id, run_id: run_directory(load_settings().home, dag_id, run_id)},
    "default_args": {"retries": 1, "retry_delay": timedelta(seconds=5)},
}


def step(verb: str, *flags: Any, name: Any, **options: Any) -> BaseOperator:
    """A task of one framework's release, as in `serving/tasks.py`."""
    return program("serving.tasks", verb, *RUN, *flags, "--framework", name, **({"task_id": verb} | options))
