"""Draw the curves of trainings and the rows of benchmarks into the axes of a plot."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from windtunnel.benchmark_result import PROTOCOL_NAMES, Row
from windtunnel.model import Framework, find_registered

UNDECLARED = "#009E73", "D"  # the colour and marker of a model that no installed package declares


def ticks(epochs: int) -> range:
    """Return the ticks of an axis of epochs: every epoch, or every nth if there are more than 12."""
    step = -(-epochs // 12)
    return range(step, epochs + 1, step)


def draw_curve(axes: Axes, framework: Framework, x: Sequence[float], y: Sequence[float]) -> None:
    """Draw a line with hollow markers, so that markers at the same place remain visible."""
    axes.plot(x, y, color=framework.colour, marker=framework.marker, fillstyle="none", markersize=7, label=framework.name)


def label_plainly(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers, also at 2 and 5 times the powers of ten."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


@dataclass(frozen=True)
class Style:
    """How a measured model is shown: by its framework where that says enough, else by its registered name."""

    name: str
    colour: str
    marker: str


def styles(rows: Iterable[Row]) -> dict[str, Style]:
    """The style of each registered model in `rows`."""
    frameworks = {row.model: row.framework for row in rows}
    found = {}
    for model, framework in frameworks.items():
        declared = find_registered(model)
        colour, marker = (declared[1].colour, declared[1].marker) if declared else UNDECLARED
        alone = list(frameworks.values()).count(framework) == 1
        found[model] = Style(framework if declared and declared[1].name == framework and alone else model, colour, marker)
    return found


def _series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Group rows by registered model and protocol, REST before gRPC."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.model, row.protocol == "grpc")):
        found.setdefault((row.model, row.protocol), []).append(row)
    return found


def _places(rows: list[Row], by: str) -> Iterator[tuple[Style, str, float, list[tuple[float, Row]]]]:
    """Yield name, protocol, bar width, and rows with their x positions of each series; rows with equal `by` are adjacent."""
    groups = sorted({getattr(row, by) for row in rows})
    series, shown = _series(rows), styles(rows)
    width = 0.84 / len(series)
    for number, ((model, protocol), own) in enumerate(series.items()):
        offset = (number - (len(series) - 1) / 2) * width
        yield shown[model], protocol, width, [(groups.index(getattr(row, by)) + offset, row) for row in own]


def _finish(axes: Axes, rows: list[Row], by: str) -> None:
    """Label the groups, and add a legend with a column for each model."""
    groups = sorted({getattr(row, by) for row in rows})
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.tick_params(axis="x", length=0)
    add_legend(axes, len({name for name, _ in _series(rows)}))


def add_legend(axes: Axes, columns: int) -> None:
    """Add a legend above the plot."""
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)


def draw_bars(axes: Axes, rows: list[Row], by: str, values: Callable[[Row], Sequence[float]]) -> None:
    """Draw the medians of each row's `values` as bars in groups of equal `by`, and the value of each round as a dot.

    A busy machine slows single rounds down. Dots show that these are few; error bars from minimum to maximum would be as tall as the bars.
    """
    for style, protocol, width, placed in _places(rows, by):
        _mark_invalid(axes, placed, style.colour)
        if not (shown := [(place, found) for place, row in placed if row.measured and (found := values(row))]):
            continue
        axes.bar(
            [place for place, _ in shown],
            [statistics.median(found) for _, found in shown],
            width * 0.9,
            facecolor=style.colour if protocol == "rest" else (style.colour, 0.35),
            edgecolor=style.colour,
            label=f"{style.name} {PROTOCOL_NAMES[protocol]}",
        )
        dots = [
            (place + width * (number / (len(found) - 1) - 0.5) / 2, value)
            for place, found in shown
            if len(found) > 1
            for number, value in enumerate(found)
        ]
        if dots:
            places, rounds = zip(*dots, strict=True)
            axes.scatter(places, rounds, s=7, color=plt.rcParams["text.color"], alpha=0.7, linewidths=0, zorder=3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    _finish(axes, rows, by)


def draw_latencies(axes: Axes, rows: list[Row], by: str) -> None:
    """Draw the medians of p50 as markers, with lines up to p99, in milliseconds."""
    for style, protocol, _, placed in _places(rows, by):
        shown = [(place, 1000 * statistics.median(row.p50), 1000 * statistics.median(row.p99)) for place, row in placed if row.measured]
        places, middles, ends = zip(*shown, strict=True) if shown else ((), (), ())
        axes.vlines(places, middles, ends, color=style.colour, linewidth=2)
        fill = "full" if protocol == "rest" else "none"
        label = f"{style.name} {PROTOCOL_NAMES[protocol]}"
        axes.plot(places, ends, color=style.colour, marker="_", linestyle="none", markersize=8)
        axes.plot(places, middles, color=style.colour, marker=style.marker, fillstyle=fill, linestyle="none", markersize=6, label=label)
        _mark_invalid(axes, placed, style.colour)
    axes.set_yscale("log")
    label_plainly(axes)
    _finish(axes, rows, by)


def _mark_invalid(axes: Axes, placed: Iterable[tuple[float, Row]], colour: str) -> None:
    for place, row in placed:
        if row.invalid:
            axes.text(place, 0.01, "×", color=colour, weight="bold", ha="center", va="bottom", transform=axes.get_xaxis_transform())
