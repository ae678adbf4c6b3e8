"""The benchmark of the benchmark: does serving.comparison call no difference where there is none, and find the one that there is?

    make bench-judge

A real server, the embedded TensorFlow Serving, has one artefact as version 1 and as version 2, and is asked over gRPC by several
clients at once, every answer checked. In half of the experiments both sides are version 1. In the other half B is version 2, which a
delay makes slower (serving.slowed); how long that must be for 20 % is found by measuring, and what it really made of the rate is said.
The two kinds take turns, so that a machine that is busy for a while disturbs both.
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

from serving.comparison import CONFIDENCE, ROUNDS, Comparison, compare
from serving.requests import batches
from serving.server import Version
from serving.slowed import SLOW
from serving.stage import private_settings, running, train
from serving.tfserving.config import to_message, write_config
from serving.tfserving.serve import command
from serving.tfserving.server import TFServing, config_file, models_directory
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tables import render

FAST = 1  # the version
CONCURRENCY = 10
DIGITS = 16  # of the golden set
SLOWDOWN = 0.2
CORRECTIONS = 4  # of the delay
FALSE_ALARMS = 1 / 20  # of experiments with the same on both sides, at most
FOUND = 19 / 20  # of experiments with a slower B, at least

Truth = Literal["no difference", "slower"]
Rate = Callable[[int], float]


@dataclass(frozen=True)
class Experiment:
    """What B was, and what the comparison made of it."""

    truth: Truth
    comparison: Comparison


@contextmanager
def serving(version: Version, settings: Settings, delay: float, seconds: float) -> Iterator[Rate]:
    """The server with this artefact as both versions, the slow one taking `delay` seconds longer to answer.

    Yields:
        What measures the rate of a version, in requests a second, over a slice of `seconds`, as `windtunnel bench --against` does.
    """
    if not config_file(settings).exists():
        write_config(config_file(settings), to_message({}, models_directory(settings)))
    flags = command(settings)[3:]  # after the Python and its module
    server = TFServing(settings)
    golden = load_file(version.directory / "golden.safetensors")
    digits = batches(golden["image"][:DIGITS], golden["label"][:DIGITS], 1)
    with running([sys.executable, "-m", "serving.slowed", str(delay), *flags], settings, server):
        for number in (FAST, SLOW):
            server.load(replace(version, number=number))
        server.promote(version.name, SLOW)  # both are in the model's own entry then
        requests = {number: server.requests(version.name, digits, number, "grpc") for number in (FAST, SLOW)}
        yield lambda number: requests[number].slice(CONCURRENCY, seconds).requests_per_second


def find_delay(version: Version, settings: Settings, rounds: int, seconds: float) -> float:
    """How many seconds more a request must take for the rate to fall by the slowdown.

    Requests that wait for each other take 1/rate each, so the first guess is a share of that; what it does to the rate corrects it, again
    and again, as one comparison is not exact enough.
    """
    wanted = 1 / (1 - SLOWDOWN) - 1
    with serving(version, settings, 0, seconds) as rate:
        rate(FAST)  # not counted
        delay = wanted / statistics.median(rate(FAST) for _ in range(rounds))
    delays = changes = 0.0
    for _ in range(CORRECTIONS):
        with serving(version, settings, delay, seconds) as rate:
            change = 1 / experiment("slower", rate, rounds).comparison.ratio - 1
        if change <= wanted / 4:
            raise WindtunnelError(
                f"a delay of {1e6 * delay:.0f} µs changes the rate by {change:.1%} only: the machine is too busy to measure"
            )
        delays, changes = delays + delay, changes + change
        delay = wanted * delays / changes
    return delay


def experiment(truth: Truth, rate: Rate, rounds: int) -> Experiment:
    """Compare the fast version with itself, or with the slow one."""
    number = SLOW if truth == "slower" else FAST
    return Experiment(truth, compare(lambda: rate(FAST), lambda: rate(number), rounds))


def tabulate(experiments: Sequence[Experiment], title: str) -> Table:
    """The confusion table: the truth, and how often each verdict was given."""
    counts = Counter[tuple[str, str]]((each.truth, each.comparison.verdict) for each in experiments)
    table = Table(title=title)
    verdicts = ("faster", "no difference", "slower")
    for heading in ("B is in truth", *(f"called {verdict}" for verdict in verdicts), "B's rate / A's, median", "least", "most"):
        table.add_column(heading, justify="left" if heading == "B is in truth" else "right")
    for truth in dict.fromkeys(each.truth for each in experiments):
        ratios = [each.comparison.ratio for each in experiments if each.truth == truth]
        figures = (f"{value:.3f}" for value in (statistics.median(ratios), min(ratios), max(ratios)))
        table.add_row(truth, *(str(counts[truth, verdict]) for verdict in verdicts), *figures)
    return table


def problems(experiments: Sequence[Experiment]) -> list[str]:
    """What the comparison promises and has not kept, a sentence each."""
    same = [each.comparison.verdict for each in experiments if each.truth == "no difference"]
    slow = [each.comparison.verdict for each in experiments if each.truth == "slower"]
    called = sum(verdict != "no difference" for verdict in same)
    found = slow.count("slower")
    return [
        *([f"a difference was called in {called} of {len(same)} comparisons of A with A"] if called > FALSE_ALARMS * len(same) else []),
        *([f"a B slowed by {SLOWDOWN:.0%} was found in {found} of {len(slow)} comparisons only"] if found < FOUND * len(slow) else []),
    ]


def main(
    experiments: Annotated[int, typer.Option(help="Comparisons of A with A, and as many of A with a slower B.", min=1)] = 20,
    rounds: Annotated[int, typer.Option(help="Of each comparison.")] = ROUNDS,
    seconds: Annotated[float, typer.Option(help="Of each measurement.", min=0.05)] = 0.1,
) -> None:
    """Compare, print the confusion table, write `judge.json` and `judge.txt` into the platform's `benchmarks` folder."""
    home = load_settings().home
    load = load_before()
    done: list[Experiment] = []
    with tempfile.TemporaryDirectory() as place:
        print("training a version", flush=True)
        version, settings = train("tensorflow", FAST, Path(place)), private_settings(Path(place) / "home")
        delay = find_delay(version, settings, rounds, seconds)
        print(f"version {SLOW} is delayed by {1e6 * delay:.0f} µs a request", flush=True)
        with serving(version, settings, delay, seconds) as rate:
            for number in range(experiments):
                for truth in ("no difference", "slower"):
                    done.append(experiment(truth, rate, rounds))
                    found = done[-1].comparison
                    interval = f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
                    print(f"{number + 1}/{experiments}  in truth {truth:13}  {interval}  called {found.verdict}", flush=True)
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
    text = render(tabulate(done, f"{rounds} rounds of {seconds:g} s, B delayed by {1e6 * delay:.0f} µs a request, confidence {CONFIDENCE}"))
    keep(home, "judge", result, text)
    print(text)
    if failures:
        raise WindtunnelError(f"{' and '.join(failures)}; may be {FALSE_ALARMS:.0%} and must be {FOUND:.0%}: repeat it on a quiet machine")


if __name__ == "__main__":
    run_program(main)
