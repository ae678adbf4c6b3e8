"""What a container costs a task: the same command as a process and in a container, in turns.

    python -m dags.benchmark        # beside a stack that is up: `docker compose up -d`

The command is a task's own, and ends when it has been imported: what differs is the container, not the work.
"""

import os
import time
from types import SimpleNamespace
from typing import Annotated

import typer

from windtunnel.environment import platform_environment
from windtunnel.measure import keep, load_before, spread
from windtunnel.program import run_program
from windtunnel.settings import load_settings

MODULE = "train_server.register"


def main(rounds: Annotated[int, typer.Option(min=1)] = 10) -> None:
    """Measure and print the milliseconds of each, medians with the least and the most, and keep them."""
    settings = load_settings()
    # what importing Airflow looks for; the operators' own lines are not wanted here
    os.environ |= platform_environment(settings) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    from dags.runtime import program

    load = load_before()
    task = SimpleNamespace(dag_id="benchmark", run_id=str(os.getpid()), task_id="benchmark", map_index=-1, try_number=1)
    milliseconds: dict[str, list[float]] = {"process": [], "docker": []}
    for _ in range(rounds + 1):
        for runtime, taken in milliseconds.items():
            os.environ["WINDTUNNEL_RUNTIME"] = runtime
            operator = program(MODULE, "--help", task_id="benchmark")
            start = time.perf_counter()
            operator.execute({"ti": task})
            taken.append(1000 * (time.perf_counter() - start))
    measured = {runtime: taken[1:] for runtime, taken in milliseconds.items()}  # the first round finds nothing in any cache
    differences = [docker - process for process, docker in zip(measured["process"], measured["docker"], strict=True)]
    lines = [f"{name:10} {spread(taken)} ms" for name, taken in [*measured.items(), ("difference", differences)]]
    print("\n".join(lines))
    keep(settings.home, "containers", {"load": load, **measured}, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_program(main)
