"""The plots of a run of `speech_commands` for its report, and plots of clips for the notebook."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from train_server.reporting.plots import BLUE, GREEN, VERMILION, Plot
from windtunnel.data.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE

KINDS = (BLUE, VERMILION, "#999999")  # of clips: correctly recognised, misrecognised, no command
SHADES = ("#999999", GREEN, BLUE)  # of the tutorial's network, the version before, the version after


def plots(evaluation: dict[str, Any], version: Path) -> list[Plot]:
    """Return the plots of all versions' accuracies, and of the new version's confusion matrix, loss and accuracy.

    Args:
        evaluation: the result that `evaluate.main` writes.
        version: the new version's directory.
    """
    versions, words = evaluation["versions"], evaluation["words"]
    confusion = np.array(versions[-1]["confusion"])
    lines = [json.loads(line) for line in (version / "metrics.jsonl").read_text().splitlines()]

    def accuracies(axes: Axes) -> None:
        conditions = evaluation["conditions"]
        width = 0.8 / len(versions)
        for number, found in enumerate(versions):
            places = np.arange(len(conditions)) + (number - (len(versions) - 1) / 2) * width
            shares = [found["accuracy"][name] for name in conditions]
            bars = axes.bar(places, shares, width, label=found["name"], color=SHADES[number - len(versions)])
            axes.bar_label(bars, fmt=lambda value: f"{value:.1%}", fontsize=7)
        axes.set_xticks(range(len(conditions)), ["\n".join(name.rsplit(" ", 1)) for name in conditions])
        axes.set(ylabel="test accuracy", ylim=(0, 1.1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.legend(ncols=len(versions), loc="lower center", bbox_to_anchor=(0.5, 1))

    def confused(axes: Axes) -> None:
        shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(len(words)), words)
        axes.set_yticks(range(len(words)), words)
        axes.set(xlabel="recognised word", ylabel="spoken word")
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)

    def against_epoch(axes: Axes, name: str) -> None:
        axes.plot([line["epoch"] for line in lines], [line[name] for line in lines], color=SHADES[-1], marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def loss(axes: Axes) -> None:
        against_epoch(axes, "loss")
        axes.set_ylabel("training loss")

    def learned(axes: Axes) -> None:
        against_epoch(axes, "accuracy")
        axes.set_ylabel("test accuracy")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))

    by_condition = "Accuracy on the same clips, as recorded and under changed conditions; higher is better."
    by_word = "Number of clips by the spoken word (rows) and the recognised word (columns)."
    by_epoch = (
        "Mean cross-entropy of each epoch. The clips are augmented, mixed in pairs, and include sounds without a command, so the loss does "
        "not approach zero."
    )
    return [
        Plot("accuracies", "Accuracy by condition", by_condition, accuracies),
        Plot("confused", "Confusion matrix of the new version", by_word, confused),
        Plot("loss", "Training loss by epoch", by_epoch, loss),
        Plot("learned", "Test accuracy by epoch", "Accuracy of the moving average of the weights, which is exported.", learned),
    ]


def certainty(best: Mapping[str, np.ndarray], limit: float) -> Plot:
    """Return a histogram of the highest probabilities by kind of clip.

    Args:
        best: the highest probability, 0..1, of each clip (N), by kind; at most three kinds.
        limit: the probability below which a clip is rejected.
    """

    def draw(axes: Axes) -> None:
        shares = [np.full(len(values), 1 / max(1, len(values))) for values in best.values()]
        axes.hist(list(best.values()), bins=20, range=(0, 1), weights=shares, label=list(best), color=KINDS[: len(best)])
        axes.axvline(limit, color="black", linestyle="--", linewidth=1)
        axes.annotate("rejected ", (limit, 0.97), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=9)
        axes.set(xlabel="probability of the most probable word", ylabel="fraction of the clips", xlim=(0, 1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.legend(ncols=len(best), loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)

    caption = f"Clips by the probability of their most probable word; clips below {limit:.2f} are rejected."
    return Plot("certainty", "Highest probability", caption, draw)


def draw_clips(figure: Figure, clips: np.ndarray, features: np.ndarray, titles: Sequence[str]) -> None:
    """Draw clips next to each other: the waveform of each, and its features below.

    Args:
        figure: an empty figure.
        clips: int16 (N,16000).
        features: log-mel energies (N,M,T), the network's input.
        titles: the titles of the clips (N).
    """
    waveforms, spectrograms = figure.subplots(2, len(clips), sharex=True, sharey="row", squeeze=False, height_ratios=(1, 2))
    for axes, clip, title in zip(waveforms, clips, titles, strict=True):
        axes.plot(np.arange(len(clip)) / SAMPLE_RATE, clip / FULL_SCALE, color=SHADES[-1], linewidth=0.5)
        axes.set_title(title)
    shade = Normalize(features.min(), features.max())
    for axes, energies in zip(spectrograms, features, strict=True):
        whole = (0, CLIP_SAMPLES / SAMPLE_RATE, 0, len(energies))
        axes.imshow(energies, origin="lower", extent=whole, aspect="auto", interpolation="nearest", norm=shade)
        axes.grid(False)
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_xlabel("time, s")
    waveforms[0].set_ylabel("amplitude")
    spectrograms[0].set_ylabel("mel band")
