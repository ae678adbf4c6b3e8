"""What the containers of tasks see, without an engine; `tests/containers` runs them."""

import json
import os
import subprocess
import sys

from windtunnel.settings import ROOT

MOUNTS = """
import json
from dags.operators.runtime import program

def mounts(module):
    return sorted([mount["Source"], mount["Target"], mount["ReadOnly"]] for mount in program(module, task_id="task").mounts)

print(json.dumps([mounts("train_server.train"), mounts("serving.release.tasks")]))
"""


def test_no_task_sees_a_private_key_and_each_has_the_public_one(tmp_path):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment |= {"WINDTUNNEL_RUNTIME": "docker", "WINDTUNNEL_HOME": "/home"}
    done = subprocess.run([sys.executable, "-c", MOUNTS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    training, release = json.loads(done.stdout.splitlines()[-1])
    assert training == [
        ["windtunnel_data", "/home/data", True],
        ["windtunnel_release-secrets", "/home/secrets", True],
        ["windtunnel_runs", "/home/runs", False],
        ["windtunnel_tensorboard", "/home/tensorboard", False],
    ]
    assert release == [
        ["windtunnel_release-secrets", "/home/secrets", True],
        ["windtunnel_runs", "/home/runs", False],
        ["windtunnel_serving", "/home/serving", False],
        ["windtunnel_tensorboard", "/home/tensorboard", False],
    ]
