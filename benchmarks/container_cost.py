"""Measure what a container adds to the time of a task: the same command as a process and in a container, alternately.

    python -m benchmarks.container_cost        # needs a running stack: `docker compose up -d`

For `python -c pass` the difference is the cost of the container alone. The other command is one that a task runs, with all its imports; it
shows what remains when Python finds its modules faster in the image than it does here.
"""

import os
import sys
import time
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from rich.table import Table

from windtunnel.measure import keep, load_before, spread
from windtunnel.platform.environment import platform_environment
from windtunnel.platform.program import run_program
from windtunnel.settings import load_settings
from windtunnel.tables import render

COMMANDS = {"python -c pass": ("-c", "pass"), "train_server.conditions --help": ("-m", "train_server.conditions", "--help")}


def main(rounds: Annotated[int, typer.Option(min=1)] = 10) -> None:
    """Measure each command, print medians with minimum and maximum in milliseconds, and save the result."""
    settings = load_settings()
    # importing Airflow needs this environment; the operators' own log lines would clutter the output
    os.environ |= platform_environment(settings) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    from dags.operators.containers import ContainerOperator
    from dags.operators.runtime import ProcessOperator

    load = load_before()
    context = {"ti": SimpleNamespace(dag_id="benchmark", run_id=str(os.getpid()), task_id="benchmark", map_index=-1, try_number=1)}
    measured: dict[str, dict[str, list[float]]] = {name: {"process": [], "container": [], "difference": []} for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, words in COMMANDS.items():
            process = ProcessOperator(task_id="benchmark", command=[sys.executable, *words])
            container = ContainerOperator(task_id="benchmark", command=["python", *words], image="train_server", settings=settings)
            taken = [_milliseconds(operator, context) for operator in (process, container)]
            if turn:  # the first round runs with cold caches and is discarded
                for kept, value in zip(measured[name].values(), [*taken, taken[1] - taken[0]], strict=True):
                    kept.append(value)
    table = Table("milliseconds", "process", "container", "difference")
    for name, columns in measured.items():
        table.add_row(name, *(spread(values) for values in columns.values()))
    text = render(table)
    print(text)
    keep(settings.home, "containers", {"load": load, "milliseconds": measured}, text)


def _milliseconds(operator: Any, context: dict[str, Any]) -> float:
    start = time.perf_counter()
    operator.execute(context)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    run_program(main)
