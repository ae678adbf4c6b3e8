"""Register the version that a framework's trainer wrote.

python -m train_server.register --run DIR --framework pytorch
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.program import run_program
from windtunnel.registry import register
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import Framework
from windtunnel.tracking import client, reachable


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    framework: Annotated[Framework, typer.Option(help="The framework whose version to register.")],
) -> None:
    """Register a trained version, once: trying again finds the same version."""
    here = Run(run)
    tracked = here.tracked(framework)
    if not tracked.exists():
        raise WindtunnelError(f"{tracked} is missing: {framework} has not been trained in this run; run its `train` task first")
    settings = load_settings()
    with reachable(settings):
        version = register(client(settings), here.version(framework), tracked.read_text(), here.lineage())
    write_json(here.registered(framework), {**asdict(version), "created": version.created.isoformat()})
    print(f"{version.name} version {version.version}, accuracy {version.accuracy:.2%}, from {version.dag_run}")


if __name__ == "__main__":
    run_program(main)
