"""Train a version of the speech model without the platform: for a speech server that has no Airflow to ask.

    python -m train_server.speech_commands.alone --run DIR

The run's directory holds the suggestions to train with, and as `champion` the version before, if there is one.
"""

from pathlib import Path
from typing import Annotated

import typer

from train_server.speech_commands.conditions import draw
from train_server.train import run_trainer
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.recordings import locate_recordings, place_of, source_of
from windtunnel.run import Run


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    data: Annotated[
        Path | None, typer.Option(help="A zip or folder of recordings with a manifest, or a folder with mini_speech_commands.")
    ] = None,
) -> None:
    """Draw the conditions and train."""
    die_with_parent()
    if data is None:
        recordings = locate_recordings("auto", print)
    else:
        name, directory = place_of(data)
        recordings = source_of(name).read(name, directory)
    here = Run(run)
    draw(here, recordings, tune=True)
    run_trainer("pytorch", here.spec_file, recordings.directory, here.conditions, here.version("pytorch"))


if __name__ == "__main__":
    run_program(main)
