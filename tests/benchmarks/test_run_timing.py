import os
import subprocess
import sys

import pytest

from benchmarks.run_timing import cpu_seconds, split
from windtunnel.platform.airflow import DagRun, Task
from windtunnel.platform.processes import NAME, PLATFORM


def task(name, seconds):
    return Task(name, "success", seconds, "http://airflow", None)


def test_what_neither_trains_nor_measures_is_orchestration():
    tasks = (
        *(task("framework.train[libtorch]", 10.0), task("framework.train[pytorch]", 20.0)),
        *(task("publication.publish[pytorch]", 3.0), task("measure", 40.0), task("watcher", None)),
    )
    run = DagRun("lenet5", "manual", "success", tasks, "http://airflow")
    assert split(run, 100.0) == {"training": 30.0, "measuring": 40.0, "orchestration": 30.0}


def test_cpu_of_a_process_and_of_what_it_started_and_outlived_is_counted(tmp_path):
    busy = "sum(range(20_000_000))"
    child = f"subprocess.run([sys.executable, '-c', {busy!r}])"
    code = f"import os, subprocess, sys; {child}; {busy}; print(*os.times()[:4], flush=True); sys.stdin.read()"
    environment = os.environ | {PLATFORM: str(tmp_path), NAME: "scheduler"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        *itself, of_children, system_of_children = map(float, process.stdout.readline().split())
        found = cpu_seconds(tmp_path)
        process.stdin.close()
    assert set(found) == {"scheduler"}
    assert of_children > 0.1
    assert found["scheduler"] == pytest.approx(sum(itself) + of_children + system_of_children, abs=0.05)
    assert cpu_seconds(tmp_path) == {}
