"""The plots of a run of `speech_commands`, for its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from train_server.plots import COLOURS, OTHER, Plot
from windtunnel.clips import WORDS

SHADES = ("#999999", OTHER, COLOURS["libtorch"])  # of the tutorial's network, before, after


def plots(evaluation: dict[str, Any], version: Path) -> list[Plot]:
    """Accuracies side by side, what the new version confuses, and how it learned.

    Args:
        evaluation: as `evaluate.main` writes it.
        version: the new version's directory.
    """
    versions = evaluation["versions"]
    confusion = np.array(list(versions.values())[-1]["confusion"])
    lines = [json.loads(line) for line in (version / "metrics.jsonl").read_text().splitlines()]

    def accuracies(axes: Axes) -> None:
        gains = ("0.1", "1", "3")
        width = 0.8 / len(versions)
        for number, (name, found) in enumerate(versions.items()):
            places = np.arange(len(gains)) + (number - (len(versions) - 1) / 2) * width
            bars = axes.bar(places, [found["accuracy"][gain] for gain in gains], width, label=name, color=SHADES[number - len(versions)])
            axes.bar_label(bars, fmt=lambda value: f"{value:.1%}", fontsize=8)
        axes.set_xticks(range(len(gains)), [f"×{gain}" for gain in gains])
        axes.set(xlabel="level", ylabel="test accuracy", ylim=(0, 1.1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.legend(ncols=len(versions), loc="lower center", bbox_to_anchor=(0.5, 1))

    def confused(axes: Axes) -> None:
        shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(len(WORDS)), WORDS)
        axes.set_yticks(range(len(WORDS)), WORDS)
        axes.set(xlabel="heard", ylabel="said")
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)

    def learned(axes: Axes) -> None:
        epochs = [line["epoch"] for line in lines]
        axes.plot(epochs, [line["accuracy"] for line in lines], color=SHADES[-1], marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel="test accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))

    by_level = "As recorded (×1), ten times softer, and three times louder; higher is better."
    by_word = "Clips by the word that was said, a row each, and the one that was heard."
    return [
        Plot("accuracies", "Accuracy by level", by_level, accuracies),
        Plot("confused", "What the new version confuses", by_word, confused),
        Plot("learned", "Test accuracy by epoch", "Of the moving average of the weights, which is what is exported.", learned),
    ]
