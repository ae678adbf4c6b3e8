"""Measure what share of suggestions is accepted, by kind of suggestion and by sender.

    python -m benchmarks.speech.suggestion_acceptance [--version DIRECTORY]

It uses recordings by test speakers, of other words, of commands played backwards, and of noise and silence. Nothing is trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.speech.speech_throughput import champion
from serving.speech_server.feedback.checks import REMEMBERED, hear
from serving.speech_server.feedback.evidence import STRANGER, believed, reliability
from serving.speech_server.model import Recognizer
from windtunnel.data.clips import CLIP_SAMPLES, as_pcm
from windtunnel.data.other_words import locate_others
from windtunnel.data.recordings import locate_recordings
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render

TOGETHER = 100
"""Number of suggestions of a sender who sends nothing else; enough of them trigger retraining."""

SENDERS = {"stranger": "no record", "good": "good record", "bad": "bad record", "together": f"{TOGETHER} at once"}
NOISES = 200


def measure(recognizer: Recognizer, clips: np.ndarray, labels: np.ndarray, others: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the shares, 0..1, that are accepted, with a row for each kind of suggestion.

    Args:
        recognizer: the champion.
        clips, labels: commands, int16 (N,16000) and uint8 (N), by speakers it was not trained with: more than `REMEMBERED`, no two in a
            row of one kind.
        others: clips that are not commands, by name, int16 (M,16000).

    Returns:
        `kind`, `count`, and a share for each of `SENDERS`: a sender without suggestions so far; one who has suggested `REMEMBERED`
        commands with the right, or with the wrong label; one without a record who sends `TOGETHER` suggestions of this kind. In the kinds
        with any label, each clip counts once per label.
    """
    heard, rows, words = _heard(recognizer, clips), np.arange(len(clips)), len(recognizer.words)
    right, wrong = heard[rows, labels], heard.copy()
    wrong[rows, labels] = -1
    record = {"good": right[:REMEMBERED], "bad": heard[rows, (labels + 1 + rows % (words - 1)) % words][:REMEMBERED]}
    shares = {"stranger": STRANGER} | {name: reliability(np.append(own, 0), ["it"] * (len(own) + 1))[-1] for name, own in record.items()}
    kinds = {
        "right label": right[REMEMBERED:],
        "any wrong label": wrong[wrong >= 0],
        "the likeliest wrong label": wrong.max(axis=1),
    }
    for name, each in others.items():
        found = _heard(recognizer, each)
        kinds |= {f"{name}, any label": found.ravel(), f"{name}, the likeliest label": found.max(axis=1)}
    return [
        {"kind": kind, "count": len(own)}
        | {name: float(believed(own, share).mean()) for name, share in shares.items()}
        | {"together": _together(own)}
        for kind, own in kinds.items()
    ]


def _heard(recognizer: Recognizer, clips: np.ndarray) -> np.ndarray:
    return hear(recognizer, clips, [CLIP_SAMPLES] * len(clips))


def _together(own: np.ndarray) -> float:
    """Return the share that is accepted from senders who send `TOGETHER` of these each."""
    mixed = np.random.default_rng(1).permutation(own)
    return float(believed(mixed, reliability(mixed, [str(row // TOGETHER) for row in range(len(mixed))])).mean())


def noises() -> np.ndarray:
    """Return noise of several colours and levels, int16 (N,16000): its power falls with the frequency to the power 0, 1 or 2."""
    random = np.random.default_rng(1)
    frequencies = np.fft.rfftfreq(CLIP_SAMPLES)[1:]
    found = []
    for number in range(NOISES):
        spectrum = np.fft.rfft(random.standard_normal(CLIP_SAMPLES))
        spectrum[0] = 0
        spectrum[1:] *= frequencies ** (-(number % 3) / 2)
        noise = np.fft.irfft(spectrum)
        found.append(as_pcm(noise / np.abs(noise).max() * 10 ** random.uniform(-1.5, 0)))
    return np.stack(found)


def tabulate(rows: list[dict[str, Any]], number: str) -> str:
    """Format the shares."""
    table = Table("suggestions", title=f"share accepted by {number}, by sender")
    for heading in ("count", *SENDERS.values()):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["kind"], f"{row['count']:,}", *(f"{row[name]:.1%}" for name in SENDERS))
    return render(table)


def main(
    version: Annotated[Path | None, typer.Option(help="The version's directory. Default: the platform's champion.")] = None,
    dataset: Annotated[str, typer.Option(help="The name of a data set with recordings of the version's words.")] = "auto",
) -> None:
    """Measure, then print and save the shares."""
    directory = version or champion()
    recognizer, recordings = Recognizer(directory, 0), locate_recordings(dataset, print)
    if recognizer.words != recordings.words:
        problem = f"{recordings.name} has other words than {directory}: found {', '.join(recordings.words)}"
        raise WindtunnelError(f"{problem}, expected {', '.join(recognizer.words)}. Name a data set of these words with --dataset")
    clips, labels = recordings.split("test")
    mixed = np.random.default_rng(1).permutation(len(clips))
    silence = np.random.default_rng(1).integers(-2, 3, (20, CLIP_SAMPLES), np.int16)
    words = locate_others(recordings.words, print).test
    others = {**words, "words backwards": clips[:, ::-1], "noise": noises(), "silence": silence}
    rows = measure(recognizer, clips[mixed], labels[mixed], others)
    text = tabulate(rows, str(directory))
    keep(load_settings().home, "acceptance", {"rows": rows, "version": str(directory), "git_commit": git_commit(ROOT)}, text)
    print(text)


if __name__ == "__main__":
    run_program(main)
