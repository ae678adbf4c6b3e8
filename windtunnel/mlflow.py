"""MLflow's server without the process that starts it: `python -m windtunnel.mlflow FLAGS` is `mlflow server FLAGS`.

MLflow checks its flags, prepares its stores, starts uvicorn and waits for it, with 190 MB in its memory and nothing to do. Here
it becomes uvicorn.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import mlflow.server
from mlflow.cli import cli


def become(cmd: list[str], *, extra_env: Mapping[str, str] | None = None, **_: Any) -> NoReturn:
    """Run a command in place of this process, where `mlflow.utils.process._exec_cmd` starts another for it."""
    os.execvpe(cmd[0], cmd, os.environ | dict(extra_env or {}))


if __name__ == "__main__":
    mlflow.server._exec_cmd = become
    cli(["server", *sys.argv[1:]])
