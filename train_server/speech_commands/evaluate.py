"""Compare the versions of a run on the test speakers, who are in no training set: before, after, and the tutorial's network.

python -m train_server.speech_commands.evaluate --run DIR
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from mlflow.entities import Metric
from rich.table import Table

from train_server.speech_commands.augmentation import pieces
from train_server.speech_commands.model import PYTORCH
from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE, as_audio
from windtunnel.data.other_words import Others, locate_others
from windtunnel.data.recordings import locate_recordings
from windtunnel.files import write_atomically, write_json
from windtunnel.platform.program import run_program
from windtunnel.recognizer import read_recognizer
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.tables import render
from windtunnel.tracking import client, reachable

BATCH = 256
BAND = (300.0, 3400.0)  # Hz: the band of a telephone line
MOVED = SAMPLE_RATE // 5  # samples


def telephone(audio: np.ndarray) -> np.ndarray:
    """Limit clips, float32 (N,16000), to the band of a telephone line."""
    spectrum, hertz = np.fft.rfft(audio), np.fft.rfftfreq(CLIP_SAMPLES, 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum * ((hertz >= BAND[0]) & (hertz <= BAND[1])), CLIP_SAMPLES).astype(np.float32)


CONDITIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "as recorded": lambda audio: audio,
    "10 times softer": lambda audio: audio * np.float32(0.1),
    "3 times louder": lambda audio: (audio * np.float32(3)).clip(-1, 1),
    "telephone": telephone,
    "0.2 s earlier": lambda audio: np.pad(audio[:, MOVED:], ((0, 0), (0, MOVED))),
    "0.2 s later": lambda audio: np.pad(audio[:, :-MOVED], ((0, 0), (MOVED, 0))),
}
"""The test conditions: functions that change clips, float32 (N,16000) in -1..1. Values beyond full scale are clipped."""


def other_sounds(clips: np.ndarray, others: Others) -> dict[str, np.ndarray]:
    """Return sounds without a command by kind: other words, and sounds made from commands, each float32 (N,16000) in -1..1.

    Args:
        clips: the commands, int16 (N,16000).
        others: the other words.
    """
    audio, generator = torch.from_numpy(as_audio(clips)), torch.Generator().manual_seed(0)
    made = {
        "played backwards": audio.flip(1),
        "pieces of words": pieces(audio, generator),
        "noise": torch.randn(len(audio), CLIP_SAMPLES, generator=generator) * 0.1,
    }
    words = {name: as_audio(found) for name, found in others.test.items()}
    return words | {name: found.numpy() for name, found in made.items()}


def listener(version: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Load the version in a directory as a function: clips, float32 (N,16000) in -1..1 → probabilities of the words, float32 (N,K)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(version / "model.onnx", options, providers=["CPUExecutionProvider"])

    def hear(audio: np.ndarray) -> np.ndarray:
        batches = range(0, len(audio), BATCH)
        return np.concatenate([session.run(["probabilities"], {"audio": audio[start : start + BATCH]})[0] for start in batches])

    return hear


def evaluate(version: Path, clips: np.ndarray, labels: np.ndarray, sounds: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Evaluate a version on test speakers.

    Args:
        version: the version's directory.
        clips: commands, int16 (N,16000).
        labels: the words of the commands, uint8 (N).
        sounds: sounds without a command, by kind, as returned by `other_sounds`.

    Returns:
        All fractions are 0..1. `accuracy` by condition; `recall` by word; `confusion`, counts (K,K), a row for each spoken word. `points`,
        one for each operating point and the released one: `reject_below`; `lost`, the fraction of the correct answers that are rejected;
        `rejected`, the fraction of the sounds without a command that are rejected, by kind. `calibration`, the expected calibration error.
    """
    audio, hear = as_audio(clips), listener(version)
    answers = {name: hear(change(audio)) for name, change in CONDITIONS.items()}
    said = answers["as recorded"]
    found, facts = said.argmax(1), read_recognizer(version)
    confusion = np.zeros((len(facts.labels), len(facts.labels)), int)
    np.add.at(confusion, (labels, found), 1)
    right = found == labels
    sure, unsure = said.max(1), {kind: hear(each).max(1) for kind, each in sounds.items()}
    limits = sorted({facts.reject_below, *(point.reject_below for point in facts.operating_points)})
    return {
        "accuracy": {name: float((answer.argmax(1) == labels).mean()) for name, answer in answers.items()},
        "recall": {word: float(right[labels == label].mean()) for label, word in enumerate(facts.labels) if (labels == label).any()},
        "confusion": confusion.tolist(),
        "reject_below": facts.reject_below,
        "points": [
            {
                "reject_below": limit,
                "lost": float((sure[right] < limit).mean()),
                "rejected": {kind: float((each < limit).mean()) for kind, each in unsure.items()},
            }
            for limit in limits
        ],
        "calibration": calibration(sure, right, np.concatenate(list(unsure.values()))),
    }


def calibration(sure: np.ndarray, right: np.ndarray, unsure: np.ndarray) -> float:
    """Compute the expected calibration error (Guo et al., arXiv 1706.04599) with ten bins of equal weight.

    It is the mean difference between the highest probability and the fraction of correct answers. Commands and other sounds have equal
    total weight.

    Args:
        sure: the highest probability for each command (N).
        right: whether the word with this probability is correct, bool (N).
        unsure: the highest probability for each of the other sounds (M).
    """
    probability, true = np.concatenate([sure, unsure]), np.concatenate([right, np.zeros(len(unsure), bool)])
    weight = np.concatenate([np.full(len(sure), 0.5 / len(sure)), np.full(len(unsure), 0.5 / len(unsure))])
    order = np.argsort(probability, kind="stable")
    middle = np.cumsum(weight[order]) - weight[order] / 2
    gaps = np.bincount((middle * 10).astype(int), weight[order] * (probability - true)[order])
    return float(np.abs(gaps).sum())


def own_point(found: dict[str, Any]) -> dict[str, Any]:
    """Return the operating point that a version is released with, from the result of `evaluate`."""
    return next(point for point in found["points"] if point["reject_below"] == found["reject_below"])


def tabulate(result: dict[str, Any]) -> tuple[Table, Table]:
    """Return a table of the accuracies of all versions and a table of their rejections."""
    heard = Table("version", title=f"{result['clips']} clips of {result['speakers']} test speakers of {result['dataset']}: accuracy")
    for heading in (*result["conditions"], "weakest word"):
        heard.add_column(heading, justify="right")
    rejected = Table("version", title="rejected: correctly recognised commands, and sounds without a command")
    for heading in ("below", "commands", *result["sounds"]):
        rejected.add_column(heading, justify="right")
    for found in result["versions"]:
        word = min(found["recall"], key=found["recall"].__getitem__)
        shares = [f"{found['accuracy'][name]:.2%}" for name in result["conditions"]]
        heard.add_row(found["name"], *shares, f"{word} {found['recall'][word]:.1%}")
        for number, point in enumerate(found["points"]):
            name = "" if number else found["name"]
            below = f"{'released: ' if point is own_point(found) else ''}{point['reject_below']:.2f}"
            shares = [point["lost"], *(point["rejected"][kind] for kind in result["sounds"])]
            rejected.add_row(name, below, *(f"{share:.1%}" for share in shares))
    return heard, rejected


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the evaluation of a run as JSON and text, and log it in MLflow."""
    here = Run(run)
    recordings = locate_recordings(here.spec().dataset, print)
    clips, labels = recordings.split("test")
    sounds = other_sounds(clips, locate_others(recordings.words, print))
    version = here.version(PYTORCH.name)
    directories = {"tutorial's network": here.baseline, "before (champion)": here.champion, "after (challenger)": version}
    result: dict[str, Any] = {
        "dataset": recordings.name,
        "clips": len(clips),
        "speakers": recordings.speakers_of("test"),
        "words": recordings.words,
        "conditions": list(CONDITIONS),
        "sounds": list(sounds),
        "versions": [{"name": name} | evaluate(each, clips, labels, sounds) for name, each in directories.items() if each.exists()],
    }
    text = "".join(map(render, tabulate(result)))
    write_json(here.evaluation, result)
    write_atomically(here.evaluation.with_suffix(".txt"), text.encode())
    print(text)
    after = result["versions"][-1]
    point = own_point(after)
    figures = {f"accuracy {name}": value for name, value in after["accuracy"].items()}
    figures |= {f"rejected {name}": value for name, value in ({"commands": point["lost"]} | point["rejected"]).items()}
    figures["calibration error"] = after["calibration"]
    settings = load_settings()
    with reachable(settings):
        metrics = [Metric(name, value, 0, 0) for name, value in figures.items()]
        client(settings).log_batch(here.tracked(PYTORCH.name).read_text(), metrics=metrics)


if __name__ == "__main__":
    run_program(main)
