"""Draw benchmark results as pictures, for documents that have no report.

python -m benchmarks.figures                  # results of `make bench-train` → img/training_speed.png
python -m benchmarks.figures --run DIR        # a run's plots → img/training.png, img/serving.png; of speech_commands → img/speech.png
python -m benchmarks.figures --bench FILE     # a result of `windtunnel bench` → img/serving.png
"""

import itertools
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer
from matplotlib.axes import Axes

from train_server.lenet5.model import LENET5
from train_server.reporting.plots import STYLE, read_curves, serving_plots, training_plots, write_png
from train_server.speech_commands.plots import plots
from windtunnel.benchmark_result import Benchmark, read_benchmark
from windtunnel.errors import WindtunnelError
from windtunnel.model import find_model
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import counted


def draw_comparison(axes: Axes, result: dict[str, Any]) -> None:
    """Draw each trainer's images per second next to its framework's tutorial, with error bars from minimum to maximum."""
    for position, (framework, row) in enumerate(result["frameworks"].items()):
        colour = LENET5.framework(framework).colour
        for offset, way, alpha, hatch in ((-0.2, "tutorial", 0.4, "//"), (0.2, "ours", 1, None)):
            middle = statistics.median(row[way])
            whiskers = [[middle - min(row[way])], [max(row[way]) - middle]]
            axes.bar(position + offset, middle, 0.38, yerr=whiskers, capsize=3, color=colour, alpha=alpha, hatch=hatch)
        axes.annotate(f"{row['speedup']:.1f}×", (position + 0.2, max(row["ours"])), (0, 4), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(result["frameworks"])), list(result["frameworks"]))
    axes.margins(y=0.15)
    axes.set(title="compared with the tutorial (hatched)", ylabel="images/s")


def draw_batch_sizes(axes: Axes, rates: dict[str, dict[str, float]]) -> None:
    """Draw images per second by batch size."""
    for framework, by_size in rates.items():
        look = LENET5.framework(framework)
        sizes = [int(size) for size in by_size]
        axes.plot(sizes, list(by_size.values()), color=look.colour, marker=look.marker, label=framework)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set(title="by batch size", xlabel="batch size", ylabel="images/s")


def draw_epochs(axes: Axes, seconds: dict[str, list[float]]) -> None:
    """Draw training time by number of epochs."""
    for framework, each in seconds.items():
        look = LENET5.framework(framework)
        total = list(itertools.accumulate(each))
        axes.plot(range(1, len(total) + 1), total, color=look.colour, marker=look.marker, label=framework)
    axes.set_ylim(bottom=0)
    axes.set(title="by epochs", xlabel="epochs", ylabel="training time, s")
    axes.legend(frameon=False)


def draw_training_speed(source: Path, out: Path) -> None:
    """Draw the latest results of the training benchmark.

    Raises:
        WindtunnelError: there are no results, or they are incomplete.
    """
    if not source.exists():
        raise WindtunnelError(f"{source} is missing. Measure first: `make bench-train`")
    result = json.loads(source.read_text())
    if "scaling" not in result:
        raise WindtunnelError(f"{source} has no scaling rounds. Measure again with --scaling-rounds 1 or more")
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        draw_comparison(left, result)
        draw_batch_sizes(middle, result["scaling"]["samples_per_second"])
        draw_epochs(right, result["scaling"]["epoch_seconds"])
        threads = counted(result["threads"], "thread")
        figure.suptitle(f"Training {LENET5.title} on MNIST: {result['samples']:,} images per epoch, {threads}")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110, metadata={"Software": None})
        plt.close(figure)


def draw_run(run: Run, directory: Path) -> list[Path]:
    """Draw the plots of a run's report into `directory`: `training.png` and, if it was benchmarked, `serving.png`; or `speech.png`.

    Raises:
        WindtunnelError: the run has trained nothing, or its benchmark cannot be read.
    """
    if run.evaluation.exists():
        return [draw_speech(run, directory)]
    curves, spec = read_curves(run), run.spec()
    if not curves:
        raise WindtunnelError(f"{run.directory} contains no version of any framework. Choose a run that has trained")
    picture = directory / "training.png"
    title = f"Training {LENET5.title} on {spec.dataset}: {spec.samples:,} images, batch {spec.batch_size}"
    write_png(training_plots(find_model(spec.model), curves), title, picture)
    benchmark = read_benchmark(run.benchmark)
    return [picture] + ([draw_serving(benchmark, directory)] if benchmark else [])


def draw_speech(run: Run, directory: Path) -> Path:
    """Draw the plots of a run of `speech_commands` as `speech.png`."""
    evaluation = json.loads(run.evaluation.read_text())
    picture = directory / "speech.png"
    title = f"Spoken commands: {evaluation['clips']} clips by {evaluation['speakers']} speakers, none of them used for training"
    write_png(plots(evaluation, run.version("pytorch")), title, picture)
    return picture


def draw_serving(benchmark: Benchmark, directory: Path) -> Path:
    """Draw the plots of a benchmark of served models as `serving.png`."""
    picture = directory / "serving.png"
    write_png(serving_plots(benchmark), f"Serving {LENET5.title}: {benchmark.machine['cpu']}, {benchmark.machine['cores']} cores", picture)
    return picture


def main(
    run: Annotated[Path | None, typer.Option(help="Draw the plots of the run in this directory.")] = None,
    bench: Annotated[Path | None, typer.Option(help="Draw this result of `windtunnel bench` (a JSON file).")] = None,
    out: Annotated[Path, typer.Option(help="Write the pictures into this directory.")] = ROOT / "img",
) -> None:
    """Draw a run or a benchmark of served models; by default, the latest results of the training benchmark."""
    if run:
        drawn = draw_run(Run(run), out)
    elif bench:
        benchmark = read_benchmark(bench)
        if benchmark is None:
            raise WindtunnelError(f"{bench} is missing. Measure first: `windtunnel bench`")
        drawn = [draw_serving(benchmark, out)]
    else:
        drawn = [out / "training_speed.png"]
        draw_training_speed(load_settings().home / "benchmarks/train.json", drawn[0])
    for picture in drawn:
        print(picture)


if __name__ == "__main__":
    run_program(main)
