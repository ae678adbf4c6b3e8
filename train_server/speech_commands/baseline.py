"""Train the network of TensorFlow's tutorial on the same clips, to compare the model with.

    python -m train_server.speech_commands.baseline --run DIR

As in the tutorial: ten epochs, no clip varied. https://www.tensorflow.org/tutorials/audio/simple_audio
"""

from pathlib import Path
from typing import Annotated

import typer

from train_server.train import run_trainer
from windtunnel.files import write_atomically
from windtunnel.program import run_program
from windtunnel.recordings import locate_recordings
from windtunnel.run import Run
from windtunnel.spec import SpeechSpec

EPOCHS, LEARNING_RATE = 10, 0.001


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Train it into the run's directory. What an earlier try has trained whole is kept."""
    here = Run(run)
    if here.baseline.exists():
        print(f"{here.baseline} was trained by an earlier try of this task")
        return
    model = here.any_spec()
    shared = model.model_dump(include={"dataset", "words", "samples", "batch_size", "seed", "threads", "others"})
    spec = SpeechSpec(network="tutorial", epochs=EPOCHS, learning_rate=LEARNING_RATE, weight_decay=0, **shared)
    file = here.baseline.with_suffix(".spec.json")
    write_atomically(file, spec.model_dump_json(indent=2).encode())
    data = locate_recordings(spec.dataset).directory
    run_trainer("pytorch", file, data, here.conditions, here.baseline)


if __name__ == "__main__":
    run_program(main)
