"""Run MLflow's server without a parent process: `python -m windtunnel.platform.mlflow FLAGS` does what `mlflow server FLAGS` does.

`mlflow server` checks its flags, prepares its stores, starts uvicorn, and then waits for it while it occupies 190 MB of memory. Here
the process replaces itself with uvicorn.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import mlflow.server
from mlflow.cli import cli


def become(cmd: list[str], *, extra_env: Mapping[str, str] | None = None, **_: Any) -> NoReturn:
    """Replace this process with a command. `mlflow.utils.process._exec_cmd` would start a child process instead."""
    os.execvpe(cmd[0], cmd, os.environ | dict(extra_env or {}))


if __name__ == "__main__":
    mlflow.server._exec_cmd = become
    cli(["server", *sys.argv[1:]])
