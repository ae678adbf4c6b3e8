"""Collect a run's conditions: the recordings, the users' suggestions, and the initial weights.

    python -m train_server.speech_commands.conditions --run DIR --dag-id speech_commands --run-id ID

The users' clips are already in the run's directory: `serving/speech_server/feedback/claims.py` has claimed and checked them.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from train_server.conditions import note_lineage
from train_server.conditions import write_conditions as write
from train_server.speech_commands.model import PYTORCH, SMALLEST_BATCH, SpeechSpec
from windtunnel import registry
from windtunnel.data.clips import WORDS
from windtunnel.data.other_words import locate_others
from windtunnel.data.recordings import Recordings, locate_recordings
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.manifest import read_manifest
from windtunnel.platform.program import run_program
from windtunnel.platform.secrets import public_key
from windtunnel.recognizer import read_recognizer
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import first_problem
from windtunnel.tracking import client, reachable
from windtunnel.vocabulary import SPEECH_COMMANDS

FRESH = {"epochs": 60, "learning_rate": 0.004}
TUNING = {"epochs": 10, "learning_rate": 0.001}


def fetch_champion(run: Run) -> None:
    """Copy the champion's files into the run's directory, if there is a champion. A training may start from its weights.

    Raises:
        SignatureError: its signature is missing, foreign or broken.
    """
    settings = load_settings()
    with reachable(settings):
        mlflow = client(settings)
        champions = [known for known in registry.list_versions(mlflow, SPEECH_COMMANDS) if "champion" in known.aliases]
        for known in champions:
            registry.fetch(mlflow, known, run.champion, public_key(settings))
            print(f"{known.name} version {known.version} is the champion, {known.measured}")


def new_suggestions(run: Run, data: Recordings) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the accepted suggestions that are not recordings of the data set, in the format of `Run.clips`, and their digests.

    If a user plays a recording of the data set to the server, it is either in the training set already or of a validation or test speaker.
    """
    recorded = {clip.tobytes() for clip in data.clips}
    accepted = json.loads(run.suggestions.read_text())["accepted"]
    taken = load_file(run.clips)
    new = [row for row, clip in enumerate(taken["clips"]) if clip.tobytes() not in recorded]
    return {name: values[new] for name, values in taken.items()}, [accepted[row]["digest"] for row in new]


def write_conditions(run: Run, spec: SpeechSpec, data: Recordings, suggestions: dict[str, np.ndarray]) -> None:
    """Write the spec and the conditions of a run atomically; files of an earlier attempt are replaced.

    `suggestions` are `clips`, int16 (N,16000), and `labels`, uint8 (N).
    """

    def collect(directory: Path) -> SpeechSpec:
        save_file(suggestions, directory / "suggestions.safetensors")
        if spec.initial:
            shutil.copy(run.champion / "weights.safetensors", directory / "initial.safetensors")
        return spec

    write(run, data, collect, with_spec=False)  # the baseline has a spec of its own


def draw_alone(data: Recordings, chosen: Mapping[str, Any], directory: Path) -> SpeechSpec:
    """Return the spec of a training with recordings alone, and write its conditions into `directory`.

    There are no suggestions, and training does not start from a champion.

    Raises:
        ValidationError: a field of the spec is invalid.
        WindtunnelError: there are too few recordings.
    """
    check_batch(data, data.counts()["train"], chosen)
    save_file({"clips": data.clips[:0], "labels": data.labels[:0]}, directory / "suggestions.safetensors")
    return SpeechSpec.model_validate({
        "words": data.words,
        "samples": data.counts()["train"],
        **FRESH,
        "others": locate_others(data.words, print).fingerprints,
        **chosen,
        "dataset": data.name,
    })  # fmt: skip


def check_batch(data: Recordings, clips: int, fields: Mapping[str, Any]) -> None:
    """Check that a batch is large enough, and that the training clips fill one: an incomplete batch is left out, and would train nothing.

    Raises:
        WindtunnelError: one of them is not so.
    """
    needed = fields.get("batch_size", SpeechSpec.model_fields["batch_size"].default)
    if not isinstance(needed, int):
        return  # an error of the spec
    if needed < SMALLEST_BATCH:
        raise WindtunnelError(
            f"batch_size is {needed}, expected {SMALLEST_BATCH} at least, for clips without a command in each batch. Change it"
        )
    if clips < needed:
        raise WindtunnelError(
            f"{data.name} in {data.directory} has too few training clips: found {clips}, expected {needed} at least, one batch. "
            "Record more, or choose a smaller batch_size"
        )


def same_words(run: Run) -> str:
    """Return the data set for `auto`: the champion's data set if the champion's words are not the default ones.

    So a server keeps its vocabulary when its model is retrained without a data set given.
    """
    if not run.champion.exists() or read_recognizer(run.champion).labels == WORDS:
        return "auto"
    return read_manifest(run.champion).spec.dataset


def check_vocabulary(run: Run, data: Recordings) -> None:
    """Check that the recordings have the champion's words.

    A server has one vocabulary: its clients rely on it, and accuracies on different words are not comparable.

    Raises:
        WindtunnelError: the words of the champion and of the recordings differ.
    """
    if not run.champion.exists():
        return
    known = read_recognizer(run.champion).labels
    if known != data.words:
        raise WindtunnelError(
            f"the words of {data.name} differ from the champion's: found {', '.join(data.words)}, expected {', '.join(known)}. A server "
            "has one vocabulary. Train with recordings of the champion's words, or start another server for these words: a platform with "
            "its own WINDTUNNEL_HOME, or dlserver with its own StateFile, TrainingUploadPath and NewModelsPath"
        )


def draw(run: Run, data: Recordings, tune: bool, **fields: Any) -> SpeechSpec:
    """Write the spec and the conditions of a run. Its directory must hold the suggestions and, if there is one, the champion.

    Args:
        run: the run.
        data: the recordings.
        tune: start from the champion's weights.
        fields: fields of the spec that differ from the defaults.

    Raises:
        WindtunnelError: the suggestions are missing, the champion has other words, there are too few clips, or the spec is invalid.
    """
    if not run.suggestions.exists():
        raise WindtunnelError(f"{run.suggestions} is missing: run the task `claim` first")
    check_vocabulary(run, data)
    suggestions, digests = new_suggestions(run, data)
    samples = data.counts()["train"] + len(digests)
    check_batch(data, samples, fields)
    weights = run.champion / "weights.safetensors"
    # a champion from before a change of the code may have another network, whose weights cannot be used
    tuning = tune and weights.exists() and getattr(read_manifest(run.champion).spec, "network", "") == "ds_resnet"
    try:
        spec = SpeechSpec.model_validate({
            "dataset": data.name,
            "words": data.words,
            "samples": samples,
            **(TUNING if tuning else FRESH),
            "suggestions": digests,
            "initial": sha256(weights) if tuning else None,
            "others": locate_others(data.words, print).fingerprints,
            **fields,
        })  # fmt: skip
    except ValidationError as error:
        raise WindtunnelError(f"the spec is invalid: {first_problem(error)}") from error
    write_conditions(run, spec, data, suggestions)
    print(f"{data.name}, fingerprint {data.fingerprint[:12]}: {spec.samples} training clips, {len(digests)} of them users' suggestions")
    print(f"{spec.epochs} epochs, {'from the weights of the champion' if tuning else f'from weights drawn with seed {spec.seed}'}")
    return spec


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    dag_id: Annotated[str, typer.Option(help="The run's DAG ID.")],
    run_id: Annotated[str, typer.Option(help="Airflow's run ID.")],
    dataset: Annotated[str, typer.Option(help="The name of a data set of recordings, or auto.")] = "auto",
    tune: Annotated[bool, typer.Option(help="Start from the champion's weights, if there is one.")] = True,
    epochs: Annotated[str, typer.Option(help="Number of epochs, or auto.")] = "auto",
    batch_size: int = 64,
    seed: int = 1,
    threads: int = 1,
) -> None:
    """Write the spec, the conditions and the lineage of a run into its directory."""
    here = Run(run)
    fetch_champion(here)
    data = locate_recordings(same_words(here) if dataset == "auto" else dataset, print)
    passes = {} if epochs == "auto" else {"epochs": epochs}
    draw(here, data, tune, batch_size=batch_size, seed=seed, threads=threads, **passes)
    note_lineage(here, dag_id, run_id, (PYTORCH.name,), data.fingerprint)


if __name__ == "__main__":
    run_program(main)
