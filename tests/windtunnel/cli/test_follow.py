"""What is printed of a run where there is no terminal. The moments are Airflow's; that a real run gives them, tests/e2e shows."""

import io
import re

from rich.console import Console

from windtunnel.cli.follow import follow
from windtunnel.platform.airflow import DagRun, Task


class Logs:
    """Stands where the client of Airflow's API does: the lines of each log at each moment."""

    def __init__(self):
        self.lines = {}

    def log(self, task):
        return self.lines.get(task.log_path, [])


def printed(*moments):
    """What is printed of moments: of each, tasks as (name, state, seconds, lines, number of the try)."""
    logs, console = Logs(), Console(file=io.StringIO(), width=80)

    def runs():
        for moment in moments:
            tasks = []
            for name, state, seconds, lines, number in moment:
                path = f"/{name.partition('[')[0]}/{number}" if number else None
                logs.lines[path] = lines
                tasks.append(Task(name, state, seconds, f"http://airflow/{name}", path))
            yield DagRun("lenet5", "manual", "running", tuple(tasks), "http://airflow")

    follow(logs, runs(), console)
    return [re.fullmatch(r" *\d+\.\d s  (.*)", line)[1] for line in console.file.getvalue().splitlines()]


def test_a_task_starts_prints_and_ends_and_waiting_is_no_news():
    assert printed(
        [("train", "waiting", None, [], 0)],
        [("train", "scheduled", None, [], 0)],
        [("train", "queued", None, [], 1)],
        [("train", "running", 0.1, [], 1)],
        [("train", "running", 1.1, ["epoch 1", ""], 1)],
        [("train", "success", 2.34, ["epoch 1", "", "epoch 2"], 1)],
        [("train", "success", 2.34, ["epoch 1", "", "epoch 2"], 1)],
    ) == ["train: started", "train: epoch 1", "train: epoch 2", "train: success after 2.3 s"]


def test_a_task_that_nobody_saw_running_loses_no_line():
    assert printed([("frameworks", "success", 0.4, ["one", "two"], 1)]) == [
        *("frameworks: started", "frameworks: one", "frameworks: two", "frameworks: success after 0.4 s")
    ]


def test_each_try_is_told_by_itself():
    assert printed(
        [("publish", "up_for_retry", 3.0, ["error: no answer"], 1)],
        [("publish", "queued", None, [], 2)],
        [("publish", "failed", 1.0, ["error: no answer"], 2)],
    ) == [
        *("publish: started", "publish: error: no answer", "publish: up_for_retry after 3.0 s"),
        *("publish: started", "publish: error: no answer", "publish: failed after 1.0 s"),
    ]


def test_every_task_that_does_not_start_is_told():
    assert printed([("parity", "upstream_failed", None, [], 0), ("publish", "upstream_failed", None, [], 0)]) == [
        *("parity: upstream_failed", "publish: upstream_failed")
    ]


def test_a_mapped_copy_is_told_by_its_name():
    assert printed(
        [("train[0]", "running", 0.1, [], 1)],
        [("train[libtorch]", "running", 1.1, [], 1)],
        [("train[libtorch]", "success", 2.0, [], 1)],
    ) == ["train[libtorch]: started", "train[libtorch]: success after 2.0 s"]


def test_a_copy_without_a_name_is_told_by_its_number():
    assert printed([("copy[0]", "running", 0.1, [], 1)], [("copy[0]", "running", 1.1, ["a line"], 1)]) == [
        "copy[0]: started",
        "copy[0]: a line",
    ]


def test_a_question_is_told_once():
    asked = ["waiting for an answer at http://airflow"]
    assert printed(
        [("approve", "awaiting_input", 1.0, asked, 1)],
        [("approve", "awaiting_input", 1.0, asked, 1)],
        [("approve", "running", 2.0, asked, 1)],
        [("approve", "success", 2.5, asked, 1)],
    ) == ["approve: started", f"approve: {asked[0]}", "approve: awaiting_input after 1.0 s", "approve: success after 2.5 s"]
