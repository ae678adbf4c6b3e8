"""The plots of a run: drawn once, and shown as SVG in its report and as PNG in the README.

Text and axes have the colour of the text around them (`currentColor`), so that an SVG can be read on light and dark.
"""

import itertools
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from windtunnel.benchmark import PROTOCOL_NAMES, Benchmark, Row
from windtunnel.run import Run
from windtunnel.spec import Framework

# Okabe and Ito's palette: told apart with any colour vision, and on paper.
COLOURS = {"libtorch": "#0072B2", "pytorch": "#D55E00", "tensorflow": "#E69F00"}
OTHER = "#009E73"  # what no framework of LeNet-5 trained
MARKERS = {"libtorch": "o", "pytorch": "s", "tensorflow": "^"}
TEXT = "#010203"  # in an SVG, replaced by currentColor
STYLE: dict[Any, Any] = {  # matplotlib names each key in a type of its own
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

Curves = Mapping[Framework, list[dict[str, float]]]
"""The lines of `metrics.jsonl` of each framework."""


@dataclass(frozen=True)
class Plot:
    """A plot with the sentences that say what it shows and how to read it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Axes], None]


def read_curves(run: Run) -> Curves:
    """What each framework that has a version in the run noted after every epoch."""
    files = {framework: run.version(framework) / "metrics.jsonl" for framework in run.lineage().frameworks}
    return {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in files.items() if file.exists()}


def training_plots(curves: Curves) -> list[Plot]:
    """How each framework learned, and how fast."""

    def against_epoch(axes: Axes, name: str) -> None:
        for framework, lines in curves.items():
            _draw_curve(axes, framework, [line["epoch"] for line in lines], [line[name] for line in lines])
        axes.set_xlabel("epoch")
        axes.set_xticks(_ticks(max(len(lines) for lines in curves.values())))
        _add_legend(axes, len(curves))

    def loss(axes: Axes) -> None:
        against_epoch(axes, "loss")
        axes.set_yscale("log")
        _label_plainly(axes)
        axes.set_ylabel("training loss")

    def accuracy(axes: Axes) -> None:
        against_epoch(axes, "accuracy")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1%}"))
        axes.set_ylabel("test accuracy")

    def seconds(axes: Axes) -> None:
        against_epoch(axes, "seconds")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("seconds")

    def accuracy_by_time(axes: Axes) -> None:
        for framework, lines in curves.items():
            elapsed = list(itertools.accumulate(line["seconds"] for line in lines))
            _draw_curve(axes, framework, elapsed, [line["accuracy"] for line in lines])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1%}"))
        axes.set_xlim(left=0)
        axes.set(xlabel="training time, s", ylabel="test accuracy")
        _add_legend(axes, len(curves))

    return [
        Plot(
            "loss",
            "Training loss by epoch",
            "Mean cross-entropy of each epoch, on a logarithmic scale; lower is better. The frameworks start from the same weights and see "
            "the same images in the same order, so curves that lie on each other are what is expected.",
            loss,
        ),
        Plot(
            "accuracy",
            "Test accuracy by epoch",
            "Share of the test images that are recognised after each epoch; higher is better. The axis does not begin at zero.",
            accuracy,
        ),
        Plot(
            "epoch_time",
            "Time per epoch",
            "Seconds of training alone in each epoch, without testing; lower is better. A line that is not level was disturbed by "
            "something else on the machine.",
            seconds,
        ),
        Plot(
            "accuracy_by_time",
            "Accuracy against training time",
            "Each point is an epoch: the test accuracy when so many seconds of training had passed. The curve further to the left gets to "
            "the same accuracy sooner.",
            accuracy_by_time,
        ),
    ]


def serving_plots(benchmark: Benchmark) -> list[Plot]:
    """How fast what was trained is served: the cells with figures; those that are invalid are marked as such."""
    single, batched = benchmark.closed(batch=1), benchmark.by_batch
    with_floor = {row.concurrency for row in single if row.share_of_floor is not None}
    floored = [row for row in single if row.concurrency in with_floor]  # a training run measures few floors
    clients = f"{batched[0].concurrency} client{'s' * (batched[0].concurrency != 1)}" if batched else ""

    def throughput(axes: Axes) -> None:
        _draw_bars(axes, single, "concurrency", lambda row: row.requests_per_second)
        axes.set(xlabel="clients at once", ylabel="requests/s")

    def latency(axes: Axes) -> None:
        _draw_latencies(axes, single, "concurrency")
        axes.set(xlabel="clients at once", ylabel="latency, ms")

    def batches(axes: Axes) -> None:
        _draw_bars(axes, batched, "batch", lambda row: [rate * row.batch for rate in row.requests_per_second])
        axes.set(xlabel="images in a request", ylabel="images/s")

    def share(of: str, rows: list[Row], by: str, xlabel: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            _draw_bars(axes, rows, by, lambda row: [] if getattr(row, f"share_of_{of}") is None else [getattr(row, f"share_of_{of}")])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
            axes.set(xlabel=xlabel, ylabel=f"share of the {of}")

        return draw

    whiskers = f"Bars are medians of {benchmark.rounds} rounds, whiskers reach from the least to the most; pale is gRPC, full is REST"
    invalid = "× means that there is no valid figure"
    plots = [
        Plot(
            "throughput",
            "Throughput by concurrency",
            f"Requests a second with one image each, by how many clients wait for an answer at once; higher is better. {whiskers}; "
            f"{invalid}.",
            throughput,
        ),
        Plot(
            "latency",
            "Latency by concurrency",
            "How long a client waits for the answer to one image, on a logarithmic scale; lower is better. The marker is the median (p50), "
            f"the line ends where 99 of 100 requests have been answered (p99); medians of {benchmark.rounds} rounds. Hollow is gRPC.",
            latency,
        ),
        Plot(
            "batches",
            "Images a second by batch",
            f"Images a second when a request carries several, with {clients}; higher is better. Where the bars grow with "
            f"the batch, it is the request that costs, not the model. {whiskers}.",
            batches,
        ),
        Plot(
            "share_of_limit",
            "Share of the model's limit",
            f"Images a second as a share of what the same file reaches in a process of its own, without a server; {clients}. "
            "What is missing to 100 % is spent on protocol and server; more is gained by computing several requests together.",
            share("limit", batched, "batch", "images in a request"),
        ),
        Plot(
            "share_of_floor",
            "Share of the protocol's floor",
            "Requests a second with one image each, as a share of what the same server stack answers without a model. What is missing to "
            "100 % is spent on the model.",
            share("floor", floored, "concurrency", "clients at once"),
        ),
    ]
    shown = {"throughput": single, "latency": single, "share_of_floor": floored}
    return [plot for plot in plots if shown.get(plot.name, batched)]


def as_svg(plot: Plot) -> str:
    """The plot as an `<svg>` element to stand in a page among others: it fits its width, and its text has the page's colour."""
    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), TEXT)
    with plt.rc_context(STYLE | colours):
        figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        plot.draw(axes)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        written = StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
        plt.close(figure)
    _, tag, content = re.split(r"(<svg .*?>)", written.getvalue(), maxsplit=1, flags=re.DOTALL)
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{plot.name}-", content)  # an id is unique in a page
    box = re.findall(r'viewBox="[^"]*"', tag)[0]
    label = escape(f"{plot.title}. {plot.caption}")
    return f'<svg {box} role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">{content.replace(TEXT, "currentColor")}'


def write_png(plots: Iterable[Plot], title: str, file: Path) -> None:
    """Draw plots beside and below each other into one picture, on white."""
    chosen = list(plots)
    columns = 2
    rows = -(-len(chosen) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=(6.4 * columns, 3.8 * rows), layout="constrained", squeeze=False)
        for axes, plot in zip(grid.flat, chosen, strict=False):
            plot.draw(axes)
            axes.set_title(plot.title, pad=36)  # room for the legend
        for axes in list(grid.flat)[len(chosen) :]:
            axes.set_axis_off()
        figure.suptitle(title)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=100, metadata={"Software": None})
        plt.close(figure)


def _ticks(epochs: int) -> range:
    """Every epoch, or so many that their numbers have room."""
    step = -(-epochs // 12)
    return range(step, epochs + 1, step)


def _draw_curve(axes: Axes, framework: str, x: Sequence[float], y: Sequence[float]) -> None:
    """A line with hollow markers: those of frameworks that agree stay visible below each other."""
    axes.plot(x, y, color=COLOURS[framework], marker=MARKERS[framework], fillstyle="none", markersize=7, label=framework)


def _label_plainly(axes: Axes) -> None:
    """Write a logarithmic axis' numbers as people do, and some between the powers of ten."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


def _series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each model and protocol, REST before gRPC."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.model, row.protocol == "grpc")):
        found.setdefault((row.framework if row.framework in COLOURS else row.model, row.protocol), []).append(row)
    return found


def _places(rows: list[Row], by: str) -> Iterator[tuple[str, str, float, list[tuple[float, Row]]]]:
    """Of each series its name, protocol, width of a place, and its rows with their places: those of equal `by` stand together."""
    groups = sorted({getattr(row, by) for row in rows})
    series = _series(rows)
    width = 0.84 / len(series)
    for number, ((name, protocol), own) in enumerate(series.items()):
        offset = (number - (len(series) - 1) / 2) * width
        yield name, protocol, width, [(groups.index(getattr(row, by)) + offset, row) for row in own]


def _finish(axes: Axes, rows: list[Row], by: str) -> None:
    """Name the groups, and the series above the plot: a column a model."""
    groups = sorted({getattr(row, by) for row in rows})
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.tick_params(axis="x", length=0)
    _add_legend(axes, len({name for name, _ in _series(rows)}))


def _add_legend(axes: Axes, columns: int) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)


def _draw_bars(axes: Axes, rows: list[Row], by: str, values: Callable[[Row], Sequence[float]]) -> None:
    """Medians of the `values` of each row as bars in groups of equal `by`, from the least to the most as whiskers."""
    for name, protocol, width, placed in _places(rows, by):
        colour = COLOURS.get(name, OTHER)
        _mark_invalid(axes, placed, colour)
        if not (shown := [(place, found) for place, row in placed if row.measured and (found := values(row))]):
            continue
        middles = [statistics.median(found) for _, found in shown]
        reach = [[middle - min(found), max(found) - middle] for middle, (_, found) in zip(middles, shown, strict=True)]
        axes.bar(
            [place for place, _ in shown],
            middles,
            width * 0.9,
            yerr=list(zip(*reach, strict=True)) if any(map(any, reach)) else None,
            error_kw={"ecolor": plt.rcParams["text.color"], "elinewidth": 1, "capsize": 2},
            facecolor=colour if protocol == "rest" else (colour, 0.35),
            edgecolor=colour,
            label=f"{name} {PROTOCOL_NAMES[protocol]}",
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    _finish(axes, rows, by)


def _draw_latencies(axes: Axes, rows: list[Row], by: str) -> None:
    """Medians of p50 as markers, and lines from there to p99, in milliseconds."""
    for name, protocol, _, placed in _places(rows, by):
        colour = COLOURS.get(name, OTHER)
        shown = [(place, 1000 * statistics.median(row.p50), 1000 * statistics.median(row.p99)) for place, row in placed if row.measured]
        places, middles, ends = zip(*shown, strict=True) if shown else ((), (), ())
        axes.vlines(places, middles, ends, color=colour, linewidth=2)
        fill = "full" if protocol == "rest" else "none"
        label = f"{name} {PROTOCOL_NAMES[protocol]}"
        axes.plot(places, ends, color=colour, marker="_", linestyle="none", markersize=8)
        axes.plot(places, middles, color=colour, marker=MARKERS.get(name, "D"), fillstyle=fill, linestyle="none", markersize=6, label=label)
        _mark_invalid(axes, placed, colour)
    axes.set_yscale("log")
    _label_plainly(axes)
    _finish(axes, rows, by)


def _mark_invalid(axes: Axes, placed: Iterable[tuple[float, Row]], colour: str) -> None:
    for place, row in placed:
        if row.invalid:
            axes.text(place, 0.01, "×", color=colour, weight="bold", ha="center", va="bottom", transform=axes.get_xaxis_transform())
