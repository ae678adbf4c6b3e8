"""Draw what `make bench-train` measured.

python -m train_server.figures        # .windtunnel/benchmarks/train.json → img/training_speed.png
"""

import itertools
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import typer
from matplotlib.axes import Axes

from windtunnel.errors import WindtunnelError
from windtunnel.program import run_program
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import FRAMEWORKS

# Okabe and Ito's palette: told apart with any colour vision, and on paper.
COLOURS = {"libtorch": "#0072B2", "pytorch": "#D55E00", "tensorflow": "#E69F00"}
MARKERS = {"libtorch": "o", "pytorch": "s", "tensorflow": "^"}


def draw_comparison(axes: Axes, result: dict[str, Any]) -> None:
    """Images a second of each trainer beside its framework's tutorial; the whiskers reach from the least to the most seen."""
    for position, framework in enumerate(FRAMEWORKS):
        row = result["frameworks"][framework]
        for offset, way, alpha, hatch in ((-0.2, "tutorial", 0.4, "//"), (0.2, "ours", 1, None)):
            middle = statistics.median(row[way])
            whiskers = [[middle - min(row[way])], [max(row[way]) - middle]]
            axes.bar(position + offset, middle, 0.38, yerr=whiskers, capsize=3, color=COLOURS[framework], alpha=alpha, hatch=hatch)
        axes.annotate(f"{row['speedup']:.1f}×", (position + 0.2, max(row["ours"])), (0, 4), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(FRAMEWORKS)), FRAMEWORKS)
    axes.margins(y=0.15)
    axes.set(title="beside the tutorial's way (hatched)", ylabel="images/s")


def draw_batch_sizes(axes: Axes, rates: dict[str, dict[str, float]]) -> None:
    """Images a second by batch size."""
    for framework, by_size in rates.items():
        sizes = [int(size) for size in by_size]
        axes.plot(sizes, list(by_size.values()), color=COLOURS[framework], marker=MARKERS[framework], label=framework)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set(title="by batch size", xlabel="images in a batch", ylabel="images/s")


def draw_epochs(axes: Axes, seconds: dict[str, list[float]]) -> None:
    """Training time by number of epochs."""
    for framework, each in seconds.items():
        total = list(itertools.accumulate(each))
        axes.plot(range(1, len(total) + 1), total, color=COLOURS[framework], marker=MARKERS[framework], label=framework)
    axes.set_ylim(bottom=0)
    axes.set(title="by epochs", xlabel="epochs", ylabel="training time, s")
    axes.legend(frameon=False)


def main(out: Annotated[Path, typer.Option(help="Where the picture goes.")] = ROOT / "img/training_speed.png") -> None:
    """Draw the newest results of the training benchmark."""
    source = load_settings().home / "benchmarks/train.json"
    if not source.exists():
        raise WindtunnelError(f"{source} is missing: measure first, with `make bench-train`")
    result = json.loads(source.read_text())
    if "scaling" not in result:
        raise WindtunnelError(f"{source} holds no scaling rounds: measure again, with --scaling-rounds 1 or more")
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    draw_comparison(left, result)
    draw_batch_sizes(middle, result["scaling"]["samples_per_second"])
    draw_epochs(right, result["scaling"]["epoch_seconds"])
    figure.suptitle(f"Training LeNet-5 on MNIST: {result['samples']:,} images an epoch, threads {result['threads']}")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, metadata={"Software": None})
    print(out)


if __name__ == "__main__":
    run_program(main)
