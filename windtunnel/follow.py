"""Show a run while it happens: a live table in a terminal, else lines: a task has started, what it prints, what came of it."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from windtunnel.airflow import Airflow, AirflowAwayError, DagRun, Task

MARKS = {
    "success": "[green]✓",
    "failed": "[red]✗",
    "upstream_failed": "[red]–",
    "skipped": "–",
    "up_for_retry": "[yellow]↻",
    "awaiting_input": "[yellow]?",
}
NOT_STARTED = ("waiting", "scheduled", "queued")
UNNAMED = re.compile(r"\[\d+\]$")  # a copy of a mapped task is known by its number until it has rendered its name
LOG_LINES = 15


def follow(airflow: Airflow, runs: Iterable[DagRun], console: Console) -> DagRun:
    """Show each of `runs`, moments of one run, on `console`, and return the last."""
    started = time.monotonic()
    spinner = Spinner("dots")
    states: dict[str, str] = {}  # of each try that has started, as it was at the moment before
    logs: dict[str | None, list[str]] = {}
    with Live(console=console, refresh_per_second=8) if console.is_terminal else nullcontext() as live:
        for run in runs:
            for task in run.tasks:
                this = task.log_path or task.url
                before, known = states.get(this), logs.get(task.log_path, [])
                if task.state in NOT_STARTED or task.state == before != "running":
                    continue
                try:
                    log = airflow.log(task)
                except AirflowAwayError:  # whoever yields the runs deals with it
                    continue
                if not (live or log) and task.state == "running" and UNNAMED.search(task.name):
                    continue  # in a moment it has a name
                states[this], logs[task.log_path] = task.state, log
                if not live:
                    for line in _news(task, before, log[len(known) :]):
                        console.print(Text(f"{time.monotonic() - started:6.1f} s  {task.name}: {line}"), soft_wrap=True)
            if live:
                live.update(_table(run, logs, spinner))
    return run


def _news(task: Task, before: str | None, lines: Iterable[str]) -> Iterator[str]:
    """What is to be said of a task that was in the state `before`: that it has started, its new `lines`, and what came of it."""
    if before is None and task.log_path:
        yield "started"
    yield from filter(None, lines)
    if task.state != "running":
        yield task.state if task.seconds is None else f"{task.state} after {task.seconds:.1f} s"


def _table(run: DagRun, logs: dict[str | None, list[str]], spinner: Spinner) -> Table:
    table = Table(box=None, title=Text(f"{run.dag_id} {run.run_id} {run.state}"), title_justify="left", show_header=False, pad_edge=False)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, style="dim", overflow="ellipsis", ratio=1)
    for task in run.tasks:
        running = task.state == "running"
        mark = spinner if running else MARKS.get(task.state, " ")
        seconds = "" if task.seconds is None else f"{task.seconds:.1f} s"
        latest = logs.get(task.log_path, [])[-1:] if running else []
        table.add_row(mark, Text(task.name), task.state, seconds, Text("".join(latest)))
    return table


def show_failures(airflow: Airflow, failed: Iterable[Task], console: Console) -> None:
    """Say which tasks failed, with the end of each log and where the whole of it is."""
    for task in failed:
        console.print(Text.assemble(("✗ ", "red"), f"{task.name} failed; the end of its log:"))
        for line in airflow.log(task)[-LOG_LINES:]:
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print(Text(f"  {task.url}"), soft_wrap=True)
