"""Test the benchmark's own accuracy: serving.benchmark.comparison must find a real difference, and must not report one that is not there.

    make bench-judge

A real server, the embedded TensorFlow Serving, serves the same artefact as version 1 and as version 2. Several clients send requests over
gRPC at once, and every answer is checked. In half of the experiments, both sides are version 1. In the other half, B is version 2, slowed
down by a delay (`slowed_tfserving`). The delay that lowers the rate by 20 % is found by measuring, and the result reports the ratio that
was measured. The two kinds of experiment alternate, so that a busy machine disturbs both.
"""

import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.model_servers.slowed_tfserving import SLOW
from benchmarks.running_servers import private_settings, running, train
from serving.backends.base import Version
from serving.backends.tfserving.backend import TFServing, config_file, models_directory
from serving.backends.tfserving.model_config import to_message, write_config
from serving.backends.tfserving.serve import command
from serving.benchmark.comparison import CONFIDENCE, ROUNDS, Comparison, compare
from serving.load.requests import batches
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tables import render

FAST = 1  # version number
CONCURRENCY = 10
DIGITS = 16  # from the golden set
SLOWDOWN = 0.2
CORRECTIONS = 4  # iterations that refine the delay
FALSE_ALARMS = 1 / 20  # maximum share of differences found when both sides are the same version
FOUND = 19 / 20  # minimum share of experiments with a slower B in which B is found slower

Truth = Literal["no difference", "slower"]
Rate = Callable[[int], float]


@dataclass(frozen=True)
class Experiment:
    """What B was (`truth`), and the result of the comparison."""

    truth: Truth
    comparison: Comparison


@contextmanager
def serving(version: Version, settings: Settings, delay: float, seconds: float) -> Iterator[Rate]:
    """Serve this artefact as both versions, with the slow one taking `delay` seconds longer to answer.

    Yields:
        A function that measures a version's rate in requests per second over `seconds`, as `windtunnel bench --against` does.
    """
    if not config_file(settings).exists():
        write_config(config_file(settings), to_message({}, models_directory(settings)))
    flags = command(settings)[3:]  # without `python -m MODULE`
    server = TFServing(settings)
    golden = load_file(version.directory / "golden.safetensors")
    digits = batches(golden["image"][:DIGITS], golden["label"][:DIGITS], 1)
    with running([sys.executable, "-m", "benchmarks.model_servers.slowed_tfserving", str(delay), *flags], settings, server):
        for number in (FAST, SLOW):
            server.load(replace(version, number=number))
        server.promote(version.name, SLOW)  # afterwards the entry that users get holds both versions
        requests = {number: server.requests(version.name, digits, number, "grpc") for number in (FAST, SLOW)}
        yield lambda number: requests[number].slice(CONCURRENCY, seconds).requests_per_second


def find_delay(version: Version, settings: Settings, rounds: int, seconds: float) -> float:
    """Find how many seconds longer a request must take for the rate to fall by `SLOWDOWN`.

    Requests that wait for each other take 1/rate each, so the first guess is a share of that. Each measurement of its effect corrects the
    delay, repeatedly, because a single comparison is not exact enough.
    """
    wanted = 1 / (1 - SLOWDOWN) - 1
    with serving(version, settings, 0, seconds) as rate:
        rate(FAST)  # warm-up, discarded
        delay = wanted / statistics.median(rate(FAST) for _ in range(rounds))
    delays = changes = 0.0
    for _ in range(CORRECTIONS):
        with serving(version, settings, delay, seconds) as rate:
            change = 1 / experiment("slower", rate, rounds).comparison.ratio - 1
        if change <= wanted / 4:
            raise WindtunnelError(
                f"the machine is too busy: a delay of {1e6 * delay:.0f} µs changes the rate by only {change:.1%}. Stop other programs"
            )
        delays, changes = delays + delay, changes + change
        delay = wanted * delays / changes
    return delay


def experiment(truth: Truth, rate: Rate, rounds: int) -> Experiment:
    """Compare the fast version with itself or with the slow one."""
    number = SLOW if truth == "slower" else FAST
    return Experiment(truth, compare(lambda: rate(FAST), lambda: rate(number), rounds))


def tabulate(experiments: Sequence[Experiment], title: str) -> Table:
    """Return the confusion table: how often each verdict was given, by truth."""
    counts = Counter[tuple[str, str]]((each.truth, each.comparison.verdict) for each in experiments)
    table = Table(title=title)
    verdicts = ("faster", "no difference", "slower")
    for heading in ("B in truth", *(f"verdict {verdict}" for verdict in verdicts), "B's rate / A's, median", "minimum", "maximum"):
        table.add_column(heading, justify="left" if heading == "B in truth" else "right")
    for truth in dict.fromkeys(each.truth for each in experiments):
        ratios = [each.comparison.ratio for each in experiments if each.truth == truth]
        figures = (f"{value:.3f}" for value in (statistics.median(ratios), min(ratios), max(ratios)))
        table.add_row(truth, *(str(counts[truth, verdict]) for verdict in verdicts), *figures)
    return table


def problems(experiments: Sequence[Experiment]) -> list[str]:
    """Return a sentence for each promise that the comparison has not kept."""
    same = [each.comparison.verdict for each in experiments if each.truth == "no difference"]
    slow = [each.comparison.verdict for each in experiments if each.truth == "slower"]
    called = sum(verdict != "no difference" for verdict in same)
    found = slow.count("slower")
    return [
        *([f"a difference was reported in {called} of {len(same)} comparisons of A with A"] if called > FALSE_ALARMS * len(same) else []),
        *([f"a B slowed by {SLOWDOWN:.0%} was found in only {found} of {len(slow)} comparisons"] if found < FOUND * len(slow) else []),
    ]


def main(
    experiments: Annotated[int, typer.Option(help="Number of comparisons of A with A, and of A with a slower B.", min=1)] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds per comparison.")] = ROUNDS,
    seconds: Annotated[float, typer.Option(help="Seconds per measurement.", min=0.05)] = 0.1,
) -> None:
    """Run the experiments, print the confusion table, and write `judge.json` and `judge.txt` into the platform's `benchmarks` directory."""
    home = load_settings().home
    load = load_before()
    done: list[Experiment] = []
    with tempfile.TemporaryDirectory() as place:
        print("training a version", flush=True)
        version, settings = train("tensorflow", FAST, Path(place)), private_settings(Path(place) / "home")
        delay = find_delay(version, settings, rounds, seconds)
        print(f"version {SLOW} is delayed by {1e6 * delay:.0f} µs per request", flush=True)
        with serving(version, settings, delay, seconds) as rate:
            for number in range(experiments):
                for truth in ("no difference", "slower"):
                    done.append(experiment(truth, rate, rounds))
                    found = done[-1].comparison
                    interval = f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
                    print(f"{number + 1}/{experiments}  truth: {truth:13}  ratio: {interval}  verdict: {found.verdict}", flush=True)
    failures = problems(done)
    result = {
        "commit": git_commit(ROOT),
        "load_before": load,
        "rounds": rounds,
        "seconds": seconds,
        "concurrency": CONCURRENCY,
        "confidence": CONFIDENCE,
        "delay": delay,
        "experiments": [{"truth": each.truth, **asdict(each.comparison)} for each in done],
        "failures": failures,
    }
    text = render(tabulate(done, f"{rounds} rounds of {seconds:g} s, B delayed by {1e6 * delay:.0f} µs/request, confidence {CONFIDENCE}"))
    keep(home, "judge", result, text)
    print(text)
    if failures:
        limits = f"expected at most {FALSE_ALARMS:.0%} false alarms and at least {FOUND:.0%} found"
        raise WindtunnelError(f"{' and '.join(failures)}; {limits}. Repeat it on a quiet machine")


if __name__ == "__main__":
    run_program(main)
