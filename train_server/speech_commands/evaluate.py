"""Hold the versions of a run against each other on the test speakers, whom none has heard: before, after, and the tutorial's network.

python -m train_server.speech_commands.evaluate --run DIR
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from mlflow.entities import Metric
from rich.table import Table

from windtunnel.clips import FULL_SCALE
from windtunnel.files import write_atomically, write_json
from windtunnel.program import run_program
from windtunnel.recordings import locate_recordings
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.speech import read_recognizer
from windtunnel.tables import render
from windtunnel.tracking import client, reachable

GAINS = (1.0, 0.1, 3.0)
BATCH = 256


def listener(version: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The version in a directory: clips, float32 (N,16000) in -1..1 → the probability of each word, float32 (N,K)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(version / "model.onnx", options, providers=["CPUExecutionProvider"])

    def hear(audio: np.ndarray) -> np.ndarray:
        batches = range(0, len(audio), BATCH)
        return np.concatenate([session.run(["probabilities"], {"audio": audio[start : start + BATCH]})[0] for start in batches])

    return hear


def evaluate(version: Path, clips: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What a version is worth: `accuracy` by gain, `recall` by word, `confusion` counts, and what it takes for no command.

    Args:
        version: its directory.
        clips: int16 (N,16000); a gain beyond full scale cuts them off, as a microphone would.
        labels: uint8 (N).

    Returns:
        Shares are 0..1; `confusion` is (K,K), a row a word that was said. `rejected_words` is the share of right answers that are too
        uncertain, `rejected_unknown` that of clips played backwards.
    """
    audio, hear = clips.astype(np.float32) / FULL_SCALE, listener(version)
    answers = {gain: hear((audio * np.float32(gain)).clip(-1, 1)) for gain in GAINS}
    said, found = answers[1.0], answers[1.0].argmax(1)
    facts = read_recognizer(version)
    words, limit = facts.labels, facts.reject_below
    confusion = np.zeros((len(words), len(words)), int)
    np.add.at(confusion, (labels, found), 1)
    right = found == labels
    return {
        "accuracy": {f"{gain:g}": float((answer.argmax(1) == labels).mean()) for gain, answer in answers.items()},
        "recall": {word: float(right[labels == label].mean()) for label, word in enumerate(words) if (labels == label).any()},
        "confusion": confusion.tolist(),
        "reject_below": limit,
        "rejected_words": float((said.max(1)[right] < limit).mean()),
        "rejected_unknown": float((hear(audio[:, ::-1]).max(1) < limit).mean()),
    }


def tabulate(result: dict[str, Any]) -> Table:
    """The versions for people, side by side."""
    table = Table("version", title=f"{result['clips']} clips of {result['speakers']} test speakers of {result['dataset']}")
    headings = [f"accuracy{'' if gain == 1 else f' at ×{gain:g}'}" for gain in GAINS]
    for heading in (*headings, "weakest word", "words rejected", "unknown rejected"):
        table.add_column(heading, justify="right")
    for found in result["versions"]:
        word = min(found["recall"], key=found["recall"].__getitem__)
        shares = [f"{found['accuracy'][f'{gain:g}']:.2%}" for gain in GAINS]
        weakest = f"{word} {found['recall'][word]:.1%}"
        table.add_row(found["name"], *shares, weakest, f"{found['rejected_words']:.1%}", f"{found['rejected_unknown']:.1%}")
    return table


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the evaluation of a run, as JSON and text, and track it in MLflow."""
    here = Run(run)
    recordings = locate_recordings(here.any_spec().dataset, print)
    clips, labels = recordings.split("test")
    directories = {"tutorial's network": here.baseline, "before (champion)": here.champion, "after (challenger)": here.version("pytorch")}
    result: dict[str, Any] = {
        "dataset": recordings.name,
        "clips": len(clips),
        "speakers": recordings.speakers_of("test"),
        "words": recordings.words,
        "versions": [{"name": name} | evaluate(each, clips, labels) for name, each in directories.items() if each.exists()],
    }
    text = render(tabulate(result))
    write_json(here.evaluation, result)
    write_atomically(here.evaluation.with_suffix(".txt"), text.encode())
    print(text)
    after = result["versions"][-1]
    figures = {f"accuracy_gain_{gain}": value for gain, value in after["accuracy"].items()}
    figures |= {name: after[name] for name in ("rejected_words", "rejected_unknown")}
    settings = load_settings()
    with reachable(settings):
        metrics = [Metric(name, value, 0, 0) for name, value in figures.items()]
        client(settings).log_batch(here.tracked("pytorch").read_text(), metrics=metrics)


if __name__ == "__main__":
    run_program(main)
