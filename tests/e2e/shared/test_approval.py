"""Approval, skips, Assets and failures of a release in a real Airflow, on the DAG `wiring`; its programs are not the subject."""

import json
import re
import time
from urllib.parse import unquote

import pytest

from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.secrets import USER
from windtunnel.settings import run_directory


class Runs:
    """Runs of the DAG `wiring`, with what a person can do to them in Airflow."""

    def __init__(self, platform):
        self.platform = platform
        self.airflow = Airflow(platform.settings)
        self.airflow.params("wiring")  # waits until Airflow has read the file
        self.http = self.airflow.http

    def request(self, method, path, **arguments):
        return self.http.request(method, path, **arguments).raise_for_status().json()

    def start(self, **params):
        return self.airflow.trigger("wiring", params)

    def states(self, run_id):
        """The states of the tasks by name; of the run itself by ""."""
        run = self.airflow.run("wiring", run_id)
        return {"": run.state} | {task.name: task.state for task in run.tasks}

    def wait(self, run_id, done):
        deadline = time.monotonic() + PATIENCE
        while not done(states := self.states(run_id)):
            assert time.monotonic() < deadline, states
            assert states[""] in ("queued", "running"), states
            time.sleep(0.5)
        return states

    def end(self, run_id):
        return self.wait(run_id, lambda states: states[""] in ("success", "failed"))

    def asked(self, run_id, count):
        """What people are asked, in the order of the names, when that many questions are open."""
        self.wait(run_id, lambda states: list(states.values()).count("awaiting_input") == count)
        # Airflow 3.3.2 fails a task that is answered before its scheduler has heard that the question's process ended.
        wait_for(lambda: self.heard(run_id) >= count)
        questions = self.request("GET", f"/api/v2/dags/wiring/dagRuns/{run_id}/hitlDetails")["hitl_details"]
        return sorted(questions, key=lambda question: question["task_instance"]["map_index"])

    def heard(self, run_id):
        """Of how many of a run's questions the scheduler has heard that their process ended, as its log says."""
        event = f"executor event with state success for task instance .*'release.approve', run_id='{re.escape(run_id)}'"
        return sum(len(re.findall(event, log.read_text())) for log in self.platform.settings.logs.glob("*.log*"))

    def answer(self, run_id, index, option):
        path = f"/api/v2/dags/wiring/dagRuns/{run_id}/taskInstances/release.approve/{index}/hitlDetails"
        self.request("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def mark(self, run_id, state, path=""):
        """Set the state of a run, or of the task instance at a path below it, as the buttons in Airflow's pages do."""
        self.request("PATCH", f"/api/v2/dags/wiring/dagRuns/{run_id}{path}", json={"new_state" if path else "state": state})

    def reason(self, run_id, task, index):
        path = f"/api/v2/dags/wiring/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/skipped"
        return self.request("GET", path, params={"map_index": index})["value"]

    def released(self, run_id, name):
        file = run_directory(self.platform.settings.home, "wiring", run_id) / f"{name}.released.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture(scope="module")
def runs(platform):
    return Runs(platform)


def test_approved_goes_on_with_the_persons_name_and_rejected_is_skipped(runs):
    run = runs.start(approve=True)
    first, second = runs.asked(run, 2)
    assert first["subject"].startswith("wiring-a: ")
    assert "| accuracy | 99.10 % |" in second["body"]
    runs.answer(run, 0, "Reject")
    runs.answer(run, 1, "Approve")
    states = runs.end(run)
    assert states[""] == "success"
    assert states["release.approve[wiring-a]"] == "skipped"
    assert states["release.promote[wiring-a]"] == states["release.fire_drill[wiring-a]"] == "skipped"
    assert states["release.promote[wiring-b]"] == "success"
    assert runs.reason(run, "release.approve", 0) == f"rejected by {USER}"
    assert runs.released(run, "wiring-a") is None
    assert runs.released(run, "wiring-b")["approved_by"] == USER


def test_one_framework_alone_is_asked_about_and_the_address_in_the_log_shows_the_question(runs):
    run = runs.start(approve=True, names=["wiring-a"])
    assert len(runs.asked(run, 1)) == 1
    task = next(task for task in runs.airflow.run("wiring", run).tasks if task.name == "release.approve[wiring-a]")
    assert f"waiting for an answer at {unquote(task.url)}/required_actions" in map(unquote, runs.airflow.log(task))
    runs.answer(run, 0, "Approve")
    assert runs.end(run)[""] == "success"
    assert runs.released(run, "wiring-a")["approved_by"] == USER


def test_an_approval_marked_as_a_success_goes_on_without_a_name(runs):
    run = runs.start(approve=True, names=["wiring-a"])
    runs.asked(run, 1)
    runs.mark(run, "success", "/taskInstances/release.approve/0")
    assert runs.end(run)[""] == "success"
    assert runs.released(run, "wiring-a")["approved_by"] == ""


def test_without_approve_nobody_is_asked_and_without_fire_drill_there_is_none(runs):
    run = runs.start(names=["wiring-b"])
    states = runs.end(run)
    assert states[""] == states["release.approve[wiring-b]"] == states["release.promote[wiring-b]"] == "success"
    assert states["release.fire_drill[wiring-b]"] == "skipped"
    assert runs.reason(run, "release.fire_drill", 0) == "the parameter fire_drill is off"
    assert runs.released(run, "wiring-b")["approved_by"] == ""


def test_a_challenger_that_stays_one_skips_its_own_release_alone_and_says_why(runs):
    run = runs.start(status={"wiring-b": 99}, fire_drill=True)
    states = runs.end(run)
    assert states[""] == states["report"] == states["watcher"] == "success"
    assert states["release.fire_drill[wiring-a]"] == "success"
    assert states["release.gate[wiring-b]"] == "skipped"
    assert states["release.approve[wiring-b]"] == states["release.promote[wiring-b]"] == states["release.fire_drill[wiring-b]"] == "skipped"
    assert runs.reason(run, "release.gate", 1) == "wiring-b was judged"


def test_a_program_that_fails_fails_the_run_though_the_report_succeeds(runs):
    run = runs.start(status={"wiring-b": 1})
    states = runs.end(run)
    assert states[""] == states["release.gate[wiring-b]"] == "failed"
    assert states["release.promote[wiring-a]"] == states["report"] == "success"
    assert states["watcher"] == "upstream_failed"


def test_a_promotion_and_nothing_else_starts_who_follows_the_asset(runs):
    def events():
        def ask():  # Airflow 3.3.2 cannot show an event while a run that it created has not started
            reply = runs.http.get("/api/v2/assets/events", params={"name_pattern": "wiring-a", "limit": 100})
            return None if reply.is_server_error else reply

        found = wait_for(ask).raise_for_status().json()["asset_events"]
        return {event["extra"]["run"]: event for event in found if event["uri"] == "windtunnel://models/wiring-a"}

    kept = runs.start(names=["wiring-a"], status={"wiring-a": 99})
    promoted = runs.start(names=["wiring-a"])
    assert runs.end(kept)[""] == runs.end(promoted)[""] == "success"
    assert f"wiring/{kept}" not in events()
    event = events()[f"wiring/{promoted}"]
    assert event["extra"] == {"version": 7, "accuracy": 0.991, "server": "none", "run": f"wiring/{promoted}"}

    follower = wait_for(lambda: events()[f"wiring/{promoted}"]["created_dagruns"])[0]["run_id"]
    report = run_directory(runs.platform.settings.home, "follower", follower) / "report.json"
    wait_for(report.exists)
    assert {"extra": event["extra"]} in json.loads(report.read_text())["events"]


def test_a_cancelled_run_ends_its_programs_and_its_questions(runs):
    running = runs.start(names=["wiring-a"], seconds=600)
    waiting = runs.start(names=["wiring-b"], approve=True)
    runs.wait(running, lambda states: states.get("release.gate[wiring-a]") == "running")
    runs.asked(waiting, 1)

    def programs():
        return runs.platform.processes('"seconds": 600')

    wait_for(programs)
    for run in (running, waiting):
        runs.mark(run, "failed")
        assert runs.end(run)[""] == "failed"
    wait_for(lambda: not programs())
    assert runs.states(waiting)["release.promote[wiring-b]"] == "skipped"
    assert runs.released(waiting, "wiring-b") is None
