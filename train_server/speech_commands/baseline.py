"""Train the network of TensorFlow's tutorial on the same clips, as a baseline for the model.

    python -m train_server.speech_commands.baseline --run DIR

As in the tutorial, it trains for ten epochs without augmentation. https://www.tensorflow.org/tutorials/audio/simple_audio
"""

from pathlib import Path
from typing import Annotated

import typer

from train_server.speech_commands.model import PYTORCH, SpeechSpec
from train_server.train import run_trainer
from windtunnel.data.recordings import locate_recordings
from windtunnel.files import write_atomically
from windtunnel.platform.program import run_program
from windtunnel.run import Run

EPOCHS, LEARNING_RATE = 10, 0.001


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Train the baseline into the run's directory. A complete version of an earlier attempt is kept."""
    here = Run(run)
    if here.baseline.exists():
        print(f"{here.baseline} was trained by an earlier attempt of this task")
        return
    model = here.spec()
    shared = model.model_dump(include={"dataset", "words", "samples", "batch_size", "seed", "threads", "others"})
    spec = SpeechSpec(network="tutorial", epochs=EPOCHS, learning_rate=LEARNING_RATE, weight_decay=0, **shared)
    file = here.baseline.with_suffix(".spec.json")
    write_atomically(file, spec.model_dump_json(indent=2).encode())
    run_trainer(PYTORCH, file, locate_recordings(spec.dataset), here.conditions, here.baseline)


if __name__ == "__main__":
    run_program(main)
