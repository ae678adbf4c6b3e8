"""Tasks in containers, on a real engine: how they end, and what they leave."""

import json
import signal
import socket

import pytest

from dags.operators.engine import connect, labels
from dags.operators.reaper import owner, reap
from tests.containers.jobs import jobs_of
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def jobs(engine, images, tmp_path_factory):
    with jobs_of(engine, images, "docker", tmp_path_factory.mktemp("airflow")) as jobs:
        yield jobs


@pytest.fixture(scope="module")
def ended(jobs):
    """How tasks ended that were run one after the other; under `log`, what they all said."""
    ended = jobs.run(
        write={"words": ["write", "a word", None, "-x"]},
        read={"words": ["read"]},
        skip={"words": ["skip"]},
        fail={"words": ["fail"]},
        fail_once={"words": ["fail-once"], "retries": 1},
        fill={"words": ["fill"]},
        absent={"words": ["write"], "retries": 1, "settings": {"WINDTUNNEL_IMAGE_TAG": "absent"}},
        away={"words": ["write"], "settings": {"WINDTUNNEL_DOCKER_URL": "tcp://127.0.0.1:9"}},
        no_network={"words": ["skip"], "settings": {"WINDTUNNEL_DOCKER_PROJECT": f"{jobs.settings.docker_project}_no"}},
    )
    assert jobs.mine() == []
    return ended | {"log": jobs.log}


def test_tasks_pass_files_on_and_cannot_change_the_data(ended):
    assert ended["write"]["state"] == ended["read"]["state"] == "success", ended["log"]
    assert "found ['a word', '', '-x']" in ended["log"]
    assert "data: ['a-data-set']" in ended["log"]
    assert "data is Read-only file system" in ended["log"]


def test_a_skip_has_the_reason_printed_last(ended):
    assert ended["skip"] == {"state": "skipped", "tries": 1, "error": None, "skipped": "there is nothing to do"}


def test_a_failure_says_what_the_command_said(ended, jobs):
    assert ended["fail"]["state"] == "failed"
    image = f"{jobs.settings.images}/train_server:1"
    said = f"AirflowException: python -m train_server.job in {image} ended with status 1: error: nothing can be done"
    assert ended["fail"]["error"] == said


def test_a_second_try_starts_anew(ended):
    assert (ended["fail_once"]["state"], ended["fail_once"]["tries"]) == ("success", 2)


def test_too_little_memory_is_named(ended):
    assert ended["fill"]["error"].endswith("ran out of memory, with a limit of 64m; raise it with WINDTUNNEL_TASK_MEMORY")


def test_an_image_that_is_not_there_fails_at_once_and_is_not_pulled(ended, jobs):
    assert (ended["absent"]["state"], ended["absent"]["tries"]) == ("failed", 1)
    said = (
        f"AirflowFailException: the Docker engine at {jobs.settings.docker_url} has no image {jobs.settings.images}/train_server:absent: "
    )
    assert ended["absent"]["error"].startswith(said)
    assert "Pulling" not in ended["log"]


def test_an_engine_that_does_not_answer_is_named(ended):
    said = "AirflowException: no Docker engine answers at tcp://127.0.0.1:9 ([Errno 111] Connection refused): start it, or set WINDTUNNEL_"
    assert ended["away"]["error"].startswith(said)


def test_what_the_engine_refuses_is_said_in_its_words(ended, jobs):
    assert ended["no_network"]["error"].endswith(f"network {jobs.settings.docker_project}_no_tasks not found")


@pytest.fixture
def asleep(jobs):
    """Starts a task that would sleep for minutes, and returns its process and its container."""
    started = []

    def start(how):
        process = jobs.start(asleep={"words": [how]})
        started.append(process)
        return process, jobs.wait_for(lambda: [each for each in jobs.mine() if f"{how} is told" in jobs.engine.docker("logs", each)])[0]

    yield start
    for process in started:
        process.kill()
        process.wait()


def inspect(jobs, container):
    return json.loads(jobs.engine.docker("inspect", container))[0]


@pytest.mark.parametrize("how", ["sleep", "stubborn"])
def test_a_cancelled_task_stops_its_container(jobs, asleep, how):
    process, _ = asleep(how)
    process.send_signal(signal.SIGTERM)
    jobs.wait_for(lambda: not jobs.mine())
    assert process.wait(PATIENCE) == 0
    assert json.loads((jobs.home / "results.json").read_text())["asleep"]["state"] == "failed"


def test_what_a_killed_task_leaves_is_reaped_and_nothing_else(jobs, asleep):
    process, container = asleep("sleep")
    found = inspect(jobs, container)
    assert found["Config"]["Labels"].items() >= labels(dag="jobs", task="asleep", map_index=-1, worker=socket.gethostname()).items()
    assert (found["HostConfig"]["Memory"], found["HostConfig"]["NanoCpus"]) == (64 * 2**20, 500_000_000)
    assert reap(jobs.settings) == []

    process.kill()
    process.wait()
    assert [each[:12] for each in reap(jobs.settings)] == [container]
    assert jobs.mine() == []


def test_the_next_try_removes_what_an_earlier_one_left(jobs, asleep):
    process, container = asleep("sleep")
    process.kill()
    process.wait()
    assert jobs.mine() == [container]
    assert jobs.run(asleep={"words": ["skip"]})["asleep"]["state"] == "skipped"
    assert jobs.mine() == []


def test_a_worker_that_is_gone_leaves_nothing_and_one_that_runs_keeps_its_own(jobs):
    engine, image = jobs.engine, f"{jobs.settings.images}/train_server:1"
    here = labels(project=jobs.settings.docker_project) | owner(connect(jobs.settings))
    worker = engine.docker("run", "-d", "--rm", image, "sleep", "300")
    try:
        mine = engine.docker("run", "-d", *_flags(here), image, "sleep", "300")
        its = engine.docker("run", "-d", *_flags(here | labels(worker=worker[:12])), image, "sleep", "300")
        elsewhere = engine.docker("run", "-d", *_flags(here | labels(worker="other", engine="another")), image, "sleep", "300")
        assert reap(jobs.settings) == []
        engine.docker("rm", "-f", worker)
        assert reap(jobs.settings) == [its]
        assert {each[:12] for each in (mine, elsewhere)} == set(jobs.mine())
    finally:
        engine.docker("rm", "-f", worker, *jobs.mine(), check=False)


def _flags(wanted):
    return [word for name, value in wanted.items() for word in ("--label", f"{name}={value}")]
