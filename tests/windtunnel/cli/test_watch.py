"""What is said of a run that waits. The moments are Airflow's; what is said when its processes end, tests/e2e shows."""

import pytest

from windtunnel.cli import watch
from windtunnel.platform.airflow import DagRun, Task
from windtunnel.settings import Settings


class Moments:
    """Stands where the client of Airflow's API does: a run's tasks at each moment, by their states."""

    def __init__(self, *moments):
        self._moments = iter(moments)

    def run(self, dag_id, run_id):
        state, *tasks = next(self._moments)
        return DagRun(dag_id, run_id, state, tuple(Task("train", task, None, "", None) for task in tasks), "http://airflow")

    def scheduler_silence(self):
        return 0.0


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What is said of a run of these moments, where nobody has patience."""
    monkeypatch.setattr(watch, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.001)

    def watched(*moments):
        lines = []
        airflow = Moments(*moments, ("success", "success"))
        assert list(watch.watch(Settings(home=tmp_path), airflow, "lenet5", "manual", lines.append))[-1].ended
        return lines

    return watched


def test_a_run_that_waits_for_others_says_so_once_each_time(said):
    waits = ("running", "success", "scheduled")
    turn = "the run waits for other runs: only one run trains or measures at a time"
    assert said(waits, waits, waits) == [turn]
    assert said(waits, waits, ("running", "running"), waits, waits) == [turn, turn]


@pytest.mark.parametrize("moment", [("running", "running", "scheduled"), ("running", "success", "awaiting_input"), ("running", "success")])
def test_a_run_that_does_something_or_waits_for_a_person_does_not(said, moment):
    assert said(moment, moment, moment) == []
