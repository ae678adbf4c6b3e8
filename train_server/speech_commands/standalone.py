"""Train a version of the speech model without the platform, for a speech server without Airflow.

    python -m train_server.speech_commands.standalone --run DIR

The run's directory holds the suggestions and, if there is one, the previous version as `champion`.
"""

from pathlib import Path
from typing import Annotated

import typer

from train_server.speech_commands.conditions import draw
from train_server.speech_commands.model import PYTORCH
from train_server.train import run_trainer
from windtunnel.data.recordings import check_clips, locate_recordings, place_of, source_of
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.platform.program import run_program
from windtunnel.run import Run


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    data: Annotated[
        Path | None, typer.Option(help="A zip or folder of recordings with a manifest, or a folder with mini_speech_commands.")
    ] = None,
) -> None:
    """Draw the conditions and train a version."""
    die_with_parent()
    if data is None:
        recordings = locate_recordings("auto", print)
    else:
        name, directory = place_of(data)
        recordings = source_of(name).read(name, directory)
        check_clips(recordings, print)
    here = Run(run)
    draw(here, recordings, tune=True)
    run_trainer(PYTORCH, here.spec_file, recordings, here.conditions, here.version(PYTORCH.name))


if __name__ == "__main__":
    run_program(main)
