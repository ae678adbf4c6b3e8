"""The plots of a run, as SVG for its report and as PNG for the documentation.

In an SVG, text and axes have the colour of the surrounding text (`currentColor`), so that it is readable on light and dark backgrounds.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from train_server.reporting.drawing import add_legend, draw_bars, draw_curve, draw_latencies, label_plainly, styles, ticks
from windtunnel.benchmark_result import Benchmark, Row
from windtunnel.metric import ACCURACY
from windtunnel.model import Model, find_registered
from windtunnel.run import Run

# Okabe and Ito's palette, which is distinguishable with any colour vision and in print.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
SYMBOLS = {"o": "●", "s": "■", "^": "▲", "v": "▼", "D": "◆", "*": "★"}
"""What looks like a marker of matplotlib in a text."""

TEXT = "#010203"  # in an SVG, replaced by currentColor
STYLE: dict[Any, Any] = {  # matplotlib's type for the keys is a literal of each name
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.alpha": 0.2,
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "windtunnel",
}

Curves = Mapping[str, list[dict[str, float]]]
"""The lines of `metrics.jsonl` of each framework."""


@dataclass(frozen=True)
class Plot:
    """A plot; the caption says what it shows and how to read it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Key:
    """An entry of the legend that several plots share: what is drawn in this colour and with this symbol."""

    name: str
    colour: str
    symbol: str


def read_curves(run: Run) -> Curves:
    """Read `metrics.jsonl` of each framework that has a version in the run."""
    files = {framework: run.version(framework) / "metrics.jsonl" for framework in run.lineage().frameworks}
    return {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in files.items() if file.exists()}


def training_plots(model: Model, curves: Curves) -> list[Plot]:
    """Return the plots of loss, metric and training time of each framework."""
    metric, samples = model.metric, f"{model.sample}s"
    better = "higher" if metric.higher_is_better else "lower"
    alike = (
        f"The frameworks start from the same weights and see the same {samples} in the same order, so the curves are expected to coincide."
    )
    measured = f"Fraction of the test {samples} classified correctly" if metric == ACCURACY else f"The {metric.name} on the test set"

    def against_epoch(axes: Axes, name: str) -> None:
        for framework, lines in curves.items():
            draw_curve(axes, model.framework(framework), [line["epoch"] for line in lines], [line[name] for line in lines])
        axes.set_xlabel("epoch")
        axes.set_xticks(ticks(max(len(lines) for lines in curves.values())))
        add_legend(axes, len(curves))

    def loss(axes: Axes) -> None:
        against_epoch(axes, "loss")
        axes.set_yscale("log")
        label_plainly(axes)
        axes.set_ylabel("training loss")

    def label_metric(axes: Axes) -> None:
        if metric.in_percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylabel(f"test {metric.name}")

    def value(axes: Axes) -> None:
        against_epoch(axes, metric.name)
        label_metric(axes)

    def seconds(axes: Axes) -> None:
        against_epoch(axes, "seconds")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("seconds")

    def value_by_time(axes: Axes) -> None:
        for framework, lines in curves.items():
            elapsed = list(itertools.accumulate(line["seconds"] for line in lines))
            draw_curve(axes, model.framework(framework), elapsed, [line[metric.name] for line in lines])
        label_metric(axes)
        axes.set_xlim(left=0)
        axes.set_xlabel("training time, s")
        add_legend(axes, len(curves))

    return [
        Plot(
            "loss",
            "Training loss by epoch",
            f"Mean {model.loss} of each epoch, on a logarithmic scale; lower is better.{f' {alike}' if model.parity else ''}",
            loss,
        ),
        Plot(
            metric.name,
            f"Test {metric.name} by epoch",
            f"{measured} after each epoch; {better} is better. The axis does not start at zero.",
            value,
        ),
        Plot(
            "epoch_time",
            "Time per epoch",
            "Training time of each epoch in seconds, without testing; lower is better. If a line is not level, other load on the machine "
            "disturbed the training.",
            seconds,
        ),
        Plot(
            f"{metric.name}_by_time",
            f"{metric.name.capitalize()} against training time",
            f"Each point is an epoch: its test {metric.name} and the training time until its end. A curve further to the left reaches the "
            f"same {metric.name} sooner.",
            value_by_time,
        ),
    ]


def training_key(model: Model, curves: Curves) -> list[Key]:
    """Return the legend of the plots that `training_plots` returns."""
    frameworks = [model.framework(name) for name in curves]
    return [Key(each.name, each.colour, SYMBOLS.get(each.marker, "●")) for each in frameworks]


def serving_key(benchmark: Benchmark) -> list[Key]:
    """Return the legend of the plots that `serving_plots` returns."""
    shown = styles(sorted(benchmark.rows, key=lambda row: row.model)).values()
    return [Key(style.name, style.colour, SYMBOLS.get(style.marker, "●")) for style in shown]


def serving_plots(benchmark: Benchmark) -> list[Plot]:
    """Return the plots of the serving benchmark; invalid rows are marked with ×."""
    single, batched = benchmark.closed(batch=1), benchmark.by_batch
    with_baseline = {row.concurrency for row in single if row.share_of_floor is not None}
    measured = [row for row in single if row.concurrency in with_baseline]  # a training run measures few baselines
    clients = f"{batched[0].concurrency} client{'s' * (batched[0].concurrency != 1)}" if batched else ""
    sample = _sample(benchmark)

    def throughput(axes: Axes) -> None:
        draw_bars(axes, single, "concurrency", lambda row: row.requests_per_second)
        axes.set(xlabel="clients at once", ylabel="requests/s")

    def latency(axes: Axes) -> None:
        draw_latencies(axes, single, "concurrency")
        axes.set(xlabel="clients at once", ylabel="latency, ms")

    def batches(axes: Axes) -> None:
        draw_bars(axes, batched, "batch", lambda row: [rate * row.batch for rate in row.requests_per_second])
        axes.set(xlabel=f"{sample}s in a request", ylabel=f"{sample}s/s")

    def share(of: str, rows: list[Row], by: str, xlabel: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            draw_bars(axes, rows, by, lambda row: [] if getattr(row, f"share_of_{of}") is None else [getattr(row, f"share_of_{of}")])
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set(xlabel=xlabel, ylabel=f"share of the {'ceiling' if of == 'limit' else 'baseline'}")

        return draw

    rounds = f"Bars are medians of {benchmark.rounds} rounds, dots are the rounds from first to last; pale is gRPC, solid is REST"
    invalid = "× marks an invalid measurement"
    plots = [
        Plot(
            "throughput",
            "Throughput by concurrency",
            f"Requests per second, one {sample} per request, by the number of concurrent clients; higher is better. {rounds}; {invalid}.",
            throughput,
        ),
        Plot(
            "latency",
            "Latency by concurrency",
            f"Response time of a request with one {sample}, on a logarithmic scale; lower is better. The marker is the median (p50), the "
            f"line ends at the 99th percentile (p99); both are medians of {benchmark.rounds} rounds. Hollow is gRPC, filled is REST.",
            latency,
        ),
        Plot(
            "batches",
            f"{sample.capitalize()}s per second by batch",
            f"{sample.capitalize()}s per second by the number of {sample}s in a request, with {clients}; higher is better. "
            f"If the bars grow with the batch, the overhead of the request dominates, not the model. {rounds}.",
            batches,
        ),
        Plot(
            "share_of_limit",
            "Share of the in-process ceiling",
            f"{sample.capitalize()}s per second as a fraction of what the same model file reaches in its own process, without a server; "
            f"{clients}. Protocol and server take the rest to 100 %; a value above 100 % comes from computing several requests together.",
            share("limit", batched, "batch", f"{sample}s in a request"),
        ),
        Plot(
            "share_of_floor",
            "Share of the no-op baseline",
            f"Requests per second, one {sample} per request, as a fraction of what the same server stack reaches without a model. The "
            "model takes the rest to 100 %.",
            share("floor", measured, "concurrency", "clients at once"),
        ),
    ]
    shown = {"throughput": single, "latency": single, "share_of_floor": measured}
    return [plot for plot in plots if shown.get(plot.name, batched)]


def _sample(benchmark: Benchmark) -> str:
    """Return what the measured models call a sample, in the singular."""
    known = [declared[0].sample if (declared := find_registered(name)) else "sample" for name in benchmark.models]
    return known[0] if len(set(known)) == 1 else "sample"


def as_svg(plot: Plot, legend: bool = True) -> str:
    """Draw a plot as an `<svg>` element for a page: it scales to the available width, and its text has the page's text colour.

    Without `legend`, the page has one for several plots.
    """
    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), TEXT)
    with plt.rc_context(STYLE | colours):
        figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        plot.draw(axes)
        if not legend and (own := axes.get_legend()):
            own.remove()
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        written = StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
        plt.close(figure)
    _, tag, content = re.split(r"(<svg .*?>)", written.getvalue(), maxsplit=1, flags=re.DOTALL)
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{plot.name}-", content)  # an id must be unique in a page
    box = re.findall(r'viewBox="[^"]*"', tag)[0]
    label = escape(f"{plot.title}. {plot.caption}")
    return f'<svg {box} role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">{content.replace(TEXT, "currentColor")}'


def write_png(plots: Iterable[Plot], title: str, file: Path) -> None:
    """Draw plots in two columns into one PNG file, on white. If they have the same legend, the picture has it once, below them."""
    chosen = list(plots)
    columns = 2
    rows = -(-len(chosen) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=(6.4 * columns, 3.8 * rows), layout="constrained", squeeze=False)
        for axes, plot in zip(grid.flat, chosen, strict=False):
            plot.draw(axes)
        shared = _share_legend(figure, list(grid.flat)[: len(chosen)])
        for axes, plot in zip(grid.flat, chosen, strict=False):
            axes.set_title(plot.title, pad=8 if shared else 36)  # room for the legend
        for axes in list(grid.flat)[len(chosen) :]:
            axes.set_axis_off()
        figure.suptitle(title)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=100, metadata={"Software": None})
        plt.close(figure)


def _share_legend(figure: Figure, drawn: list[Axes]) -> bool:
    """Replace the legends of the axes with one of the figure, if all name the same. Return whether they do."""
    legends = [axes.get_legend() for axes in drawn]
    if len({tuple(text.get_text() for text in legend.get_texts()) if legend else () for legend in legends}) != 1:
        return False
    handles, labels = drawn[0].get_legend_handles_labels()
    for legend in filter(None, legends):
        legend.remove()
    figure.legend(handles, labels, ncols=min(len(labels), 8), loc="outside lower center")
    return True
