"""Tasks as services of a Swarm, on a real engine: how they end, and what they leave."""

import json
import signal

import pytest

from dags.operators.reaper import reap
from tests.containers.jobs import jobs_of
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def jobs(engine, images, swarm, tmp_path_factory):
    with jobs_of(engine, images, "swarm", tmp_path_factory.mktemp("airflow")) as jobs:
        yield jobs


def services(jobs):
    return jobs.engine.docker("service", "ls", "-q", "--filter", f"label=windtunnel.project={jobs.settings.docker_project}").split()


@pytest.fixture(scope="module")
def ended(jobs):
    """How tasks ended that were run one after the other; under `log`, what they all said."""
    ended = jobs.run(
        write={"words": ["write", "a word", None, "-x"]},
        read={"words": ["read"]},
        skip={"words": ["skip"]},
        fail={"words": ["fail"]},
        fill={"words": ["fill"]},
        absent={"words": ["write"], "settings": {"WINDTUNNEL_IMAGE_TAG": "absent"}},
    )
    assert services(jobs) == []
    return ended | {"log": jobs.log}


def test_tasks_pass_files_on_and_all_their_lines_arrive(ended):
    assert ended["write"]["state"] == ended["read"]["state"] == "success", ended["log"]
    for line in (
        "write is told ['a word', '', '-x']",
        "found ['a word', '', '-x']",
        "data: ['a-data-set']",
        "data is Read-only file system",
    ):
        assert ended["log"].count(line) == 1


def test_a_skip_has_the_reason_printed_last(ended):
    assert (ended["skip"]["state"], ended["skip"]["skipped"]) == ("skipped", "there is nothing to do")


def test_a_failure_says_what_swarm_and_the_command_said(ended):
    said = "ended as failed (task: non-zero exit (1)): error: nothing can be done"
    assert ended["fail"]["error"].endswith(said)
    assert ended["fill"]["error"].endswith("ran out of memory, with a limit of 64m; raise it with WINDTUNNEL_TASK_MEMORY")
    assert "ended as rejected (No such image" in ended["absent"]["error"]


@pytest.fixture
def asleep(jobs):
    process = jobs.start(asleep={"words": ["sleep"]})
    jobs.wait_for(lambda: "sleep is told" in jobs.log)
    yield process
    process.kill()
    process.wait()


def test_a_cancelled_task_removes_its_service(jobs, asleep):
    asleep.send_signal(signal.SIGTERM)
    jobs.wait_for(lambda: not services(jobs))
    assert asleep.wait(PATIENCE) == 0
    assert json.loads((jobs.home / "results.json").read_text())["asleep"]["state"] == "failed"


def test_what_a_killed_task_leaves_is_reaped(jobs, asleep):
    assert reap(jobs.settings) == []
    asleep.kill()
    asleep.wait()
    assert len(reap(jobs.settings)) == 1
    assert services(jobs) == []
