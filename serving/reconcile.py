"""Make a model server serve what the registry says as soon as both answer: `python -m serving.reconcile torchserve`."""

import time
from functools import partial
from typing import Annotated

import typer

from serving.release import reconcile
from serving.servers import connect
from windtunnel.errors import WindtunnelError
from windtunnel.problems import Problem
from windtunnel.program import run_program
from windtunnel.settings import load_settings

POLL_SECONDS = 0.5


def main(server: Annotated[str, typer.Argument(help="torchserve, tfserving or speech.")]) -> None:
    """Reconcile one server; try until it is done."""
    settings = load_settings()
    connected = connect(server, settings)
    problem = Problem(partial(print, flush=True))
    while True:
        try:
            changes = reconcile(settings, connected, lambda line: print(line, flush=True))
        except WindtunnelError as error:
            problem.is_there(f"not reconciled yet: {error}")
            time.sleep(POLL_SECONDS)
        else:
            print(f"{server} serves what the registry says, {len(changes)} changes", flush=True)
            return


if __name__ == "__main__":
    run_program(main)
