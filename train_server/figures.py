"""Draw what was measured, as pictures for people who have no report at hand.

python -m train_server.figures                  # what `make bench-train` measured → img/training_speed.png
python -m train_server.figures --run DIR        # a run's plots → img/training.png, img/serving.png; of spoken commands → img/speech.png
python -m train_server.figures --bench FILE     # what `windtunnel bench` measured → img/serving.png
"""

import itertools
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer
from matplotlib.axes import Axes

from train_server.plots import COLOURS, MARKERS, STYLE, read_curves, serving_plots, training_plots, write_png
from train_server.speech_commands.plots import plots
from windtunnel.benchmark import Benchmark, read_benchmark
from windtunnel.errors import WindtunnelError
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import FRAMEWORKS


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


def draw_training_speed(source: Path, out: Path) -> None:
    """Draw the newest results of the training benchmark.

    Raises:
        WindtunnelError: there are none, or they are not whole.
    """
    if not source.exists():
        raise WindtunnelError(f"{source} is missing: measure first, with `make bench-train`")
    result = json.loads(source.read_text())
    if "scaling" not in result:
        raise WindtunnelError(f"{source} holds no scaling rounds: measure again, with --scaling-rounds 1 or more")
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        draw_comparison(left, result)
        draw_batch_sizes(middle, result["scaling"]["samples_per_second"])
        draw_epochs(right, result["scaling"]["epoch_seconds"])
        figure.suptitle(f"Training LeNet-5 on MNIST: {result['samples']:,} images an epoch, threads {result['threads']}")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110, metadata={"Software": None})
        plt.close(figure)


def draw_run(run: Run, directory: Path) -> list[Path]:
    """Draw the plots of a run's report into `directory`: `training.png`, and `serving.png` if it was measured, or `speech.png`.

    Raises:
        WindtunnelError: nothing was trained in it, or its benchmark cannot be read.
    """
    if run.evaluation.exists():
        return [draw_speech(run, directory)]
    curves, spec = read_curves(run), run.spec()
    if not curves:
        raise WindtunnelError(f"{run.directory} holds no version of any framework: draw a run that has trained")
    picture = directory / "training.png"
    write_png(training_plots(curves), f"Training LeNet-5 on {spec.dataset}: {spec.samples:,} images, batch {spec.batch_size}", picture)
    benchmark = read_benchmark(run.benchmark)
    return [picture] + ([draw_serving(benchmark, directory)] if benchmark else [])


def draw_speech(run: Run, directory: Path) -> Path:
    """Draw the plots of a run of `speech_commands` as `speech.png`."""
    evaluation = json.loads(run.evaluation.read_text())
    picture = directory / "speech.png"
    title = f"Spoken commands: {evaluation['clips']} clips of {evaluation['speakers']} speakers that no version has heard"
    write_png(plots(evaluation, run.version("pytorch")), title, picture)
    return picture


def draw_serving(benchmark: Benchmark, directory: Path) -> Path:
    """Draw the plots of a benchmark of served models as `serving.png`."""
    picture = directory / "serving.png"
    write_png(serving_plots(benchmark), f"Serving LeNet-5: {benchmark.machine['cpu']}, {benchmark.machine['cores']} cores", picture)
    return picture


def main(
    run: Annotated[Path | None, typer.Option(help="Draw the plots of the run in this directory.")] = None,
    bench: Annotated[Path | None, typer.Option(help="Draw this result of `windtunnel bench`, as JSON.")] = None,
    out: Annotated[Path, typer.Option(help="The folder the pictures go to.")] = ROOT / "img",
) -> None:
    """Draw a run, a benchmark of served models, or else the newest results of the training benchmark."""
    if run:
        drawn = draw_run(Run(run), out)
    elif bench:
        benchmark = read_benchmark(bench)
        if benchmark is None:
            raise WindtunnelError(f"{bench} is missing: measure first, with `windtunnel bench`")
        drawn = [draw_serving(benchmark, out)]
    else:
        drawn = [out / "training_speed.png"]
        draw_training_speed(load_settings().home / "benchmarks/train.json", drawn[0])
    for picture in drawn:
        print(picture)


if __name__ == "__main__":
    run_program(main)
