"""Make a model server serve what the registry says, once both answer: `python -m serving.release.reconcile torchserve`."""

import time
from functools import partial
from typing import Annotated

import typer

from serving.backends.catalog import connect
from serving.release.release import reconcile
from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.platform.program import run_program
from windtunnel.problems import Problem
from windtunnel.settings import load_settings

POLL_SECONDS = 0.5


def main(server: Annotated[str, typer.Argument(help="The name of a declared backend, such as torchserve.")]) -> None:
    """Reconcile one server, retrying until it succeeds, or until only a person can do the rest."""
    settings = load_settings()
    connected = connect(server, settings)
    problem = Problem(partial(print, flush=True))
    while True:
        try:
            changes = reconcile(settings, connected, lambda line: print(line, flush=True))
        except VersionError as error:
            raise WindtunnelError(f"{error}. Then call `windtunnel reconcile`") from error
        except WindtunnelError as error:
            problem.is_there(f"not reconciled yet: {error}")
            time.sleep(POLL_SECONDS)
        else:
            print(f"{server} serves what the registry says, {len(changes)} changes", flush=True)
            return


if __name__ == "__main__":
    run_program(main)
