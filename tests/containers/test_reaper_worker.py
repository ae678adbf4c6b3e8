"""The worker's command, with a real Celery that gets no tasks: what is there when it starts and when it ends."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from dags.operators.engine import connect, labels
from dags.operators.reaper import owner
from tests.containers.jobs import jobs_of
from tests.waiting import PATIENCE
from windtunnel.settings import ROOT


@pytest.fixture(scope="module")
def jobs(engine, images, tmp_path_factory):
    with jobs_of(engine, images, "docker", tmp_path_factory.mktemp("airflow")) as jobs:
        yield jobs


@pytest.fixture
def worker(jobs):
    """The worker, once Celery is ready."""
    celery = {"AIRFLOW__CELERY__BROKER_URL": "memory://", "AIRFLOW__CELERY__RESULT_BACKEND": "cache+memory://"}
    environment = jobs.environment | celery | {"WINDTUNNEL_WORKER_QUEUES": "default,big", "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    with (jobs.home / "log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "dags.operators.worker"], env=environment, cwd=ROOT, stdout=log, stderr=log)
    jobs.wait_for(lambda: "ready" in jobs.log)
    yield worker
    worker.kill()
    worker.wait()


@pytest.fixture
def task():
    """What stands for a task's process."""
    with subprocess.Popen(["sleep", "300"]) as task:
        yield task
        task.kill()


def start(jobs, pid, seconds=0.0):
    """A container as the task with this process starts one, `seconds` after it really did."""
    started = f"{pid} {psutil.Process(pid).create_time() + seconds}"
    carried = labels(project=jobs.settings.docker_project) | owner(connect(jobs.settings)) | labels(process=started)
    flags = [word for name, value in carried.items() for word in ("--label", f"{name}={value}")]
    return jobs.engine.docker("run", "-d", *flags, f"{jobs.settings.images}/train_server:1", "sleep", "300")[:12]


def test_it_reaps_while_it_works_and_leaves_nothing_when_told_to_stop(jobs, worker, task):
    assert "big" in jobs.log
    alive, orphan = start(jobs, task.pid), start(jobs, task.pid, seconds=60)
    jobs.wait_for(lambda: orphan not in jobs.mine())
    assert jobs.mine() == [alive]
    jobs.wait_for(lambda: f"reaper: {orphan}" in jobs.log)

    celery = psutil.Process(worker.pid).children(recursive=True)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0, jobs.log
    assert jobs.mine() == []
    assert not psutil.wait_procs(celery, timeout=PATIENCE)[1]


def test_it_ends_when_celery_ends(jobs, worker, task):
    start(jobs, task.pid)
    celery = psutil.Process(worker.pid).children(recursive=True)
    psutil.Process(worker.pid).children()[0].kill()
    assert worker.wait(PATIENCE) == 1, jobs.log
    assert jobs.mine() == []
    assert not psutil.wait_procs(celery, timeout=PATIENCE)[1]
