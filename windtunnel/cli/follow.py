"""Show the progress of a run: as a live table in a terminal, else as lines for the start, output and result of each task."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from windtunnel.platform.airflow import Airflow, AirflowAwayError, DagRun, Task

MARKS = {
    "success": "[green]✓",
    "failed": "[red]✗",
    "upstream_failed": "[red]–",
    "skipped": "–",
    "up_for_retry": "[yellow]↻",
    "awaiting_input": "[yellow]?",
}
NOT_STARTED = ("waiting", "scheduled", "queued")
UNNAMED = re.compile(r"\[\d+\]$")  # a mapped task instance has a number until its name is rendered
LOG_LINES = 15


def follow(airflow: Airflow, runs: Iterable[DagRun], console: Console) -> DagRun:
    """Show each of `runs`, the states of one run over time, on `console`. Return the last state."""
    started = time.monotonic()
    spinner = Spinner("dots")
    states: dict[str, str] = {}  # of each try that has started, in the previous state of the run
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
                except AirflowAwayError:  # the generator of `runs` handles this
                    continue
                if not (live or log) and task.state == "running" and UNNAMED.search(task.name):
                    continue  # it will have a name soon
                states[this], logs[task.log_path] = task.state, log
                if not live:
                    for line in _news(task, before, log[len(known) :]):
                        console.print(Text(f"{time.monotonic() - started:6.1f} s  {task.name}: {line}"), soft_wrap=True)
            if live:
                live.update(_table(run, logs, spinner))
    return run


def _news(task: Task, before: str | None, lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines to print about a task that was in the state `before`: its start, its new log `lines`, and its result."""
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
    """Print the failed tasks, the last lines of each log, and the link to it."""
    for task in failed:
        console.print(Text.assemble(("✗ ", "red"), f"{task.name} failed. The last lines of its log:"))
        for line in airflow.log(task)[-LOG_LINES:]:
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print(Text(f"  {task.url}"), soft_wrap=True)
