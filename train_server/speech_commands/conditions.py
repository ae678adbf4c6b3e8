"""Collect a run's conditions: the recordings, what users suggested, and the weights to start from.

    python -m train_server.speech_commands.conditions --run DIR --dag-id speech_commands --run-id ID

The users' clips are in the run's directory already, claimed and checked by the speech server's side (`serving/speech/claim.py`).
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from train_server.conditions import note_lineage
from windtunnel import registry
from windtunnel.clips import WORDS
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.others import locate_others
from windtunnel.program import run_program
from windtunnel.recordings import Recordings, locate_recordings
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import SpeechSpec, first_problem
from windtunnel.speech import SPEECH_COMMANDS, read_recognizer
from windtunnel.tracking import client, reachable

FRESH = {"epochs": 60, "learning_rate": 0.004}
TUNING = {"epochs": 10, "learning_rate": 0.001}


def fetch_champion(run: Run) -> None:
    """Have the files of the version users get in the run's directory, if there is one."""
    settings = load_settings()
    with reachable(settings):
        mlflow = client(settings)
        champions = [known for known in registry.list_versions(mlflow, SPEECH_COMMANDS) if "champion" in known.aliases]
        for known in champions:
            registry.fetch(mlflow, known, run.champion)
            print(f"{known.name} version {known.version} is the champion, accuracy {known.accuracy:.2%}")


def new_suggestions(run: Run, data: Recordings) -> tuple[dict[str, np.ndarray], list[str]]:
    """The accepted suggestions that are no recordings of the data set, as in `Run.clips`, and their digests.

    A recording that somebody plays to the server is in the training set already, or else of a speaker who must not be trained with.
    """
    recorded = {clip.tobytes() for clip in data.clips}
    accepted = json.loads(run.suggestions.read_text())["accepted"]
    taken = load_file(run.clips)
    new = [row for row, clip in enumerate(taken["clips"]) if clip.tobytes() not in recorded]
    return {name: values[new] for name, values in taken.items()}, [accepted[row]["digest"] for row in new]


def write_conditions(run: Run, spec: SpeechSpec, data: Recordings, suggestions: dict[str, np.ndarray]) -> None:
    """Write the spec and the conditions of a run, whole or not at all; what an earlier try left is replaced.

    `suggestions` are `clips`, int16 (N,16000), and `labels`, uint8 (N).
    """
    write_atomically(run.spec_file, spec.model_dump_json(indent=2).encode())
    partial = run.conditions.with_name(run.conditions.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(suggestions, partial / "suggestions.safetensors")
    if spec.initial:
        shutil.copy(run.champion / "weights.safetensors", partial / "initial.safetensors")
    files = {file.name: sha256(file) for file in sorted(partial.iterdir())}
    write_json(partial / "conditions.json", {"files": files, "dataset": data.lineage()})
    shutil.rmtree(run.conditions, ignore_errors=True)
    partial.rename(run.conditions)


def same_words(run: Run) -> str:
    """The data set that `auto` stands for: the champion's, where its words are not the eight.

    So a server that has its model retrained, and names no data set, keeps its vocabulary.
    """
    if not run.champion.exists() or read_recognizer(run.champion).labels == WORDS:
        return "auto"
    return read_manifest(run.champion).spec.dataset


def check_vocabulary(run: Run, data: Recordings) -> None:
    """A server has one vocabulary: its clients rely on it, and accuracies on different words cannot be compared.

    Raises:
        WindtunnelError: the champion knows other words than the recordings.
    """
    if not run.champion.exists():
        return
    known = read_recognizer(run.champion).labels
    if known != data.words:
        raise WindtunnelError(
            f"{data.name} has the words {', '.join(data.words)}, but the champion knows {', '.join(known)}: a server has one vocabulary. "
            "Train with recordings of the champion's words, or start another server for these: a platform with a WINDTUNNEL_HOME of its "
            "own, or dlserver with a StateFile, TrainingUploadPath and NewModelsPath of its own"
        )


def draw(run: Run, data: Recordings, tune: bool, **fields: Any) -> SpeechSpec:
    """Write the spec and the conditions of a run whose suggestions, and whose champion, if there is one, are in its directory.

    Args:
        run: the run.
        data: the recordings.
        tune: start from the champion's weights.
        fields: of the spec, where they are not to be the usual ones.

    Raises:
        WindtunnelError: the suggestions are missing, the champion knows other words, or this cannot be trained.
    """
    if not run.suggestions.exists():
        raise WindtunnelError(f"{run.suggestions} is missing: run the task `claim` first")
    check_vocabulary(run, data)
    suggestions, digests = new_suggestions(run, data)
    weights = run.champion / "weights.safetensors"
    # the champion's network may be another than today's, from before a change of the code: then there is nothing to start from
    tuning = tune and weights.exists() and getattr(read_manifest(run.champion).spec, "network", "") == "ds_resnet"
    try:
        spec = SpeechSpec.model_validate({
            "dataset": data.name,
            "words": data.words,
            "samples": len(data.split("train")[1]) + len(digests),
            **(TUNING if tuning else FRESH),
            "suggestions": digests,
            "initial": sha256(weights) if tuning else None,
            "others": locate_others(data.words, print).fingerprints,
            **fields,
        })  # fmt: skip
    except ValidationError as error:
        raise WindtunnelError(f"this cannot be trained: {first_problem(error)}") from error
    write_conditions(run, spec, data, suggestions)
    print(f"{data.name}, fingerprint {data.fingerprint[:12]}: {spec.samples} training clips, {len(digests)} of them users' suggestions")
    print(f"{spec.epochs} epochs, {'from the weights of the champion' if tuning else f'from weights drawn under seed {spec.seed}'}")
    return spec


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    dag_id: Annotated[str, typer.Option(help="The DAG that this run is one of.")],
    run_id: Annotated[str, typer.Option(help="Airflow's name of the run.")],
    dataset: Annotated[str, typer.Option(help="The name of a data set of recordings, or auto.")] = "auto",
    tune: Annotated[bool, typer.Option(help="Start from the champion's weights, if there is one.")] = True,
    epochs: Annotated[str, typer.Option(help="Passes through the clips, or auto.")] = "auto",
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
    note_lineage(here, dag_id, run_id, ("pytorch",), data.fingerprint)


if __name__ == "__main__":
    run_program(main)
