"""Measure how many digits per second the servers answer in the platform's configuration, compared with their stock configurations.

    make bench-serve

All servers run at the same time, each on its own ports. In each round, each of them is measured once at every concurrency, one after the
other, so that a slowdown of the machine affects all of them; ratios are computed within a round. ApacheBench sends REST requests over
keep-alive connections: a PNG to TorchServe, a digit as JSON to TensorFlow Serving. serving.load.generators sends digits as binary tensors
over gRPC. Answers are checked as in serving.benchmark.benchmark; a measurement with a wrong answer is a failure and yields no figure.
"""

import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.model_servers.server_configurations import TFSERVING, TORCHSERVE
from benchmarks.running_servers import private_settings, running, train
from serving.backends.base import Protocol, Server, Version
from serving.backends.tfserving.backend import TFServing
from serving.backends.torchserve.backend import TorchServe
from serving.load.requests import Requests, batches
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before, spread
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tables import render

CONCURRENCIES = (1, 10, 50)
STOCK = "stock"

AIMS: Mapping[tuple[str, str], Mapping[int, float]] = {
    ("torchserve", "tuned"): {1: 0.7, 10: 1.5, 50: 2.5},
    ("tfserving", "batching"): {10: 2.0, 50: 2.0},
    ("tfserving", "tuned"): {10: 2.0, 50: 2.0},
}
"""The target for a configuration's rate, as a multiple of the stock configuration's, by concurrency."""


@dataclass(frozen=True)
class Contestant:
    """A row of the table: a server in a configuration, measured over a protocol."""

    server: str
    configuration: str
    protocol: str
    requests: Requests
    rates: dict[int, list[float | None]] = field(default_factory=lambda: {concurrency: [] for concurrency in CONCURRENCIES})
    failures: list[str] = field(default_factory=list)

    def measure(self, concurrency: int, seconds: int) -> None:
        """Measure once; append a rate, or append a failure and None."""
        try:
            self.rates[concurrency].append(self.requests.closed(concurrency, seconds).requests_per_second)
        except WindtunnelError as error:
            self.rates[concurrency].append(None)
            self.failures.append(f"concurrency {concurrency}: {error}")


@contextmanager
def torchserve(version: Version, home: Path, configuration: str) -> Iterator[list[Contestant]]:
    """Run TorchServe in a configuration, with the version as its champion."""
    settings = private_settings(home)
    server = TorchServe(settings, TORCHSERVE[configuration])
    with serving(version, settings, server, configuration):
        rest = requests(version, server, "rest")
        if configuration == STOCK:
            rest = replace(rest, read=_stock_label)
        yield [Contestant("torchserve", configuration, "REST, PNG", rest)]


@contextmanager
def tfserving(version: Version, home: Path, configuration: str) -> Iterator[list[Contestant]]:
    """Run the embedded TensorFlow Serving in a configuration, with the version as its champion."""
    settings = private_settings(home)
    server = TFServing(settings)
    with serving(version, settings, server, configuration):
        yield [
            Contestant("tfserving", configuration, "REST, JSON", requests(version, server, "rest")),
            Contestant("tfserving", configuration, "gRPC", requests(version, server, "grpc")),
        ]


def requests(version: Version, server: Server, protocol: Protocol) -> Requests:
    """Return requests to the champion, with one digit each."""
    golden = load_file(version.directory / "golden.safetensors")
    return server.requests(version.name, batches(golden["image"], golden["label"], 1), None, protocol)


@contextmanager
def serving(version: Version, settings: Settings, server: Server, configuration: str) -> Iterator[None]:
    """Run a server in a configuration, with the version as its champion."""
    with running([sys.executable, "-m", "benchmarks.model_servers.server_configurations", server.name, configuration], settings, server):
        server.load(version)
        server.promote(version.name, version.number)
        yield


def _stock_label(answer: bytes) -> list[int]:
    """Read the label from the stock handler's answer, a list of probabilities."""
    return [int(np.argmax(json.loads(answer)))]


def compare(contestants: list[Contestant], rounds: int, seconds: int) -> None:
    """Measure every contestant at every concurrency once per round."""
    for number, concurrency, contestant in itertools.product(range(rounds), CONCURRENCIES, contestants):
        contestant.measure(concurrency, seconds)
        rate = contestant.rates[concurrency][-1]
        found = contestant.failures[-1] if rate is None else f"{rate:7.0f}/s"
        what = f"{contestant.server:10}  {contestant.configuration:8}  {contestant.protocol:10}  concurrency {concurrency:2}"
        print(f"round {number + 1}/{rounds}  {what}  {found}", flush=True)


def summarise(contestants: list[Contestant]) -> list[dict[str, Any]]:
    """Return a row per contestant and concurrency: rates, median ratio to the stock configuration in the same round, and target."""
    stock = {(each.server, each.protocol): each for each in contestants if each.configuration == STOCK}
    rows = []
    for each, concurrency in itertools.product(contestants, CONCURRENCIES):
        beside = stock[each.server, each.protocol]
        pairs = zip(each.rates[concurrency], beside.rates[concurrency], strict=True)
        ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs is not None]
        rates = [rate for rate in each.rates[concurrency] if rate is not None]
        rows.append({
            "server": each.server,
            "configuration": each.configuration,
            "protocol": each.protocol,
            "concurrency": concurrency,
            "rates": rates,
            "ratio": statistics.median(ratios) if ratios else None,
            "aim": AIMS.get((each.server, each.configuration), {}).get(concurrency),
        })  # fmt: skip
    return rows


def tabulate(rows: list[dict[str, Any]], seconds: int) -> Table:
    """Format the comparison: medians, with minimum and maximum in brackets."""
    table = Table(title=f"Answers per second, one digit per request, {seconds} s per measurement")
    for heading in ("server", "configuration", "protocol", "concurrency", "answers/s", "× stock", "aim"):
        table.add_column(heading, justify="left" if heading in ("server", "configuration", "protocol") else "right")
    for row in rows:
        table.add_row(
            row["server"],
            row["configuration"],
            row["protocol"],
            str(row["concurrency"]),
            spread(row["rates"]) if row["rates"] else "failed",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "" if row["aim"] is None else f"{row['aim']:g}",
        )
    return table


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of the comparison.", min=1)] = 5,
    seconds: Annotated[int, typer.Option(help="Seconds per measurement.", min=1)] = 4,
) -> None:
    """Measure, print the table, and write `serve.json` and `serve.txt` into the platform's `benchmarks` directory."""
    home = load_settings().home
    load = load_before()
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        print("training a version for each server", flush=True)
        torch, tensorflow = (train(framework, 1, Path(place)) for framework in ("pytorch", "tensorflow"))
        contestants: list[Contestant] = []
        for configuration in TORCHSERVE:
            contestants += servers.enter_context(torchserve(torch, Path(place) / f"torchserve-{configuration}", configuration))
        for configuration in TFSERVING:
            contestants += servers.enter_context(tfserving(tensorflow, Path(place) / f"tfserving-{configuration}", configuration))
        compare(contestants, rounds, seconds)
    rows = summarise(contestants)
    failures = [f"{each.server} {each.configuration} {each.protocol}, {failure}" for each in contestants for failure in each.failures]
    result = {"commit": git_commit(ROOT), "load_before": load, "rounds": rounds, "seconds": seconds, "rows": rows, "failures": failures}
    text = render(tabulate(rows, seconds))
    keep(home, "serve", result, text)
    print(text)
    if failures:
        raise WindtunnelError(f"{len(failures)} measurements failed; the first: {failures[0]}. Repeat it on a quiet machine")


if __name__ == "__main__":
    run_program(main)
