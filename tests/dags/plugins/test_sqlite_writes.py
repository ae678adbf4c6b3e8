"""Which requests wait for each other if Airflow's database is SQLite; that it helps, tests/e2e/shared/test_platform.py shows."""

import json
import os
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE
from windtunnel.settings import ROOT

RUN = """
import asyncio, json, sys
from dags.plugins.sqlite_writes import OneWriteAtATime

first, second = json.loads(sys.argv[1])
begun, ended = [], asyncio.Event()

async def app(scope, receive, send):
    begun.append(scope["path"])
    await ended.wait()

async def main():
    middleware = OneWriteAtATime(app)
    both = [asyncio.create_task(middleware(scope, None, None)) for scope in (first, second)]
    for _ in range(10):
        await asyncio.sleep(0)
    print("BEGUN" + json.dumps(len(begun)))
    ended.set()
    await asyncio.gather(*both)

asyncio.run(main())
"""


def request(method, path, root=""):
    return {"type": "http", "method": method, "path": root + path, "root_path": root}


TRIGGER = request("POST", "/api/v2/dags/lenet5/dagRuns")


@pytest.mark.parametrize(
    ("first", "second", "at_once"),
    [
        (TRIGGER, request("POST", "/execution/task-instances"), False),
        (TRIGGER, request("GET", "/api/v2/dags"), True),
        (request("POST", "/windtunnel/models/api/try"), TRIGGER, True),
        (request("POST", "/windtunnel/models/api/try", "/airflow"), TRIGGER, True),
        (request("POST", "/api/v2/windtunnel/models/"), TRIGGER, False),
    ],
)
def test_writes_wait_for_each_other_and_what_goes_to_the_model_servers_for_none(tmp_path, first, second, at_once):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, json.dumps([first, second])]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.partition("BEGUN")[2]) == (2 if at_once else 1)
