"""How many digits a second the servers answer as they are configured here, beside their stock configurations.

    make bench-serve

Every server runs at once, on ports of its own, and in each round each of them is measured once at every concurrency, one after the
other, so that a machine that slows down slows all of them; ratios are of one round. ApacheBench asks over REST, keeping its
connections: TorchServe for a PNG, TensorFlow Serving for a digit in JSON; gRPC is asked by serving.load, for digits in binary. Answers
are checked as in serving.benchmark; a measurement with one that is wrong is a failure, and gives no figure.
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

from serving.requests import Requests, batches
from serving.server import Protocol, Server, Version
from serving.stage import private_settings, running, train
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before, spread
from windtunnel.program import run_program
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
"""What a configuration's rate should be, as a multiple of the stock configuration's, by concurrency."""


@dataclass(frozen=True)
class Contestant:
    """One line of the table: a server as it is configured, asked over a protocol."""

    server: str
    configuration: str
    protocol: str
    requests: Requests
    rates: dict[int, list[float | None]] = field(default_factory=lambda: {concurrency: [] for concurrency in CONCURRENCIES})
    failures: list[str] = field(default_factory=list)

    def measure(self, concurrency: int, seconds: int) -> None:
        """Add a rate, or a failure and no rate."""
        try:
            self.rates[concurrency].append(self.requests.closed(concurrency, seconds).requests_per_second)
        except WindtunnelError as error:
            self.rates[concurrency].append(None)
            self.failures.append(f"concurrency {concurrency}: {error}")


def program(server: str, configuration: str) -> list[str]:
    """The command that starts a server in a configuration, which is the one the platform has if it is `tuned`."""
    if configuration == "tuned":
        return [sys.executable, "-m", f"serving.{server}.serve"]
    value = {
        ("torchserve", STOCK): "config.STOCK",
        ("tfserving", STOCK): "('--enable_batching=false',)",
        ("tfserving", "batching"): "('--enable_batching=true', *serve.SMALL)",
    }[server, configuration]
    imports = f"from serving.{server} import config, serve; from windtunnel.settings import load_settings"
    return [sys.executable, "-c", f"{imports}; serve.serve(load_settings(), {value})"]


@contextmanager
def torchserve(version: Version, home: Path, configuration: str) -> Iterator[list[Contestant]]:
    """TorchServe in a configuration, with the version as the champion."""
    from serving.torchserve.config import STOCK as STOCK_CONFIG
    from serving.torchserve.config import TUNED
    from serving.torchserve.server import TorchServe

    settings = private_settings(home)
    server = TorchServe(settings, STOCK_CONFIG if configuration == STOCK else TUNED)
    with serving(version, settings, server, configuration):
        rest = requests(version, server, "rest")
        if configuration == STOCK:
            rest = replace(rest, read=_stock_label)
        yield [Contestant("torchserve", configuration, "REST, PNG", rest)]


@contextmanager
def tfserving(version: Version, home: Path, configuration: str) -> Iterator[list[Contestant]]:
    """The embedded TensorFlow Serving in a configuration, with the version as the champion."""
    from serving.tfserving.server import TFServing

    settings = private_settings(home)
    server = TFServing(settings)
    with serving(version, settings, server, configuration):
        yield [
            Contestant("tfserving", configuration, "REST, JSON", requests(version, server, "rest")),
            Contestant("tfserving", configuration, "gRPC", requests(version, server, "grpc")),
        ]


def requests(version: Version, server: Server, protocol: Protocol) -> Requests:
    """Requests to the champion, a digit each."""
    golden = load_file(version.directory / "golden.safetensors")
    return server.requests(version.name, batches(golden["image"], golden["label"], 1), None, protocol)


@contextmanager
def serving(version: Version, settings: Settings, server: Server, configuration: str) -> Iterator[None]:
    """A server in a configuration, with the version as the champion."""
    with running(program(server.name, configuration), settings, server):
        server.load(version)
        server.promote(version.name, version.number)
        yield


def _stock_label(answer: bytes) -> list[int]:
    """Of the stock handler, which gives the probabilities."""
    return [int(np.argmax(json.loads(answer)))]


def compare(contestants: list[Contestant], rounds: int, seconds: int) -> None:
    """Measure every contestant at every concurrency once a round."""
    for number, concurrency, contestant in itertools.product(range(rounds), CONCURRENCIES, contestants):
        contestant.measure(concurrency, seconds)
        rate = contestant.rates[concurrency][-1]
        found = contestant.failures[-1] if rate is None else f"{rate:7.0f}/s"
        what = f"{contestant.server:10}  {contestant.configuration:8}  {contestant.protocol:10}  concurrency {concurrency:2}"
        print(f"round {number + 1}/{rounds}  {what}  {found}", flush=True)


def summarise(contestants: list[Contestant]) -> list[dict[str, Any]]:
    """A row a contestant and concurrency: the rates, the median ratio to the stock configuration's in the same round, and its aim."""
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
    """The comparison for people: medians, and the spread of the rounds in brackets."""
    table = Table(title=f"Answers a second, one digit a request, {seconds} s a measurement")
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
    seconds: Annotated[int, typer.Option(help="Of each measurement.", min=1)] = 4,
) -> None:
    """Measure, print the table, write `serve.json` and `serve.txt` into the platform's `benchmarks` folder."""
    home = load_settings().home
    load = load_before()
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        print("training a version for each server", flush=True)
        torch, tensorflow = (train(framework, 1, Path(place)) for framework in ("pytorch", "tensorflow"))
        contestants: list[Contestant] = []
        for configuration in (STOCK, "tuned"):
            contestants += servers.enter_context(torchserve(torch, Path(place) / f"torchserve-{configuration}", configuration))
        for configuration in (STOCK, "batching", "tuned"):
            contestants += servers.enter_context(tfserving(tensorflow, Path(place) / f"tfserving-{configuration}", configuration))
        compare(contestants, rounds, seconds)
    rows = summarise(contestants)
    failures = [f"{each.server} {each.configuration} {each.protocol}, {failure}" for each in contestants for failure in each.failures]
    result = {"commit": git_commit(ROOT), "load_before": load, "rounds": rounds, "seconds": seconds, "rows": rows, "failures": failures}
    text = render(tabulate(rows, seconds))
    keep(home, "serve", result, text)
    print(text)
    if failures:
        raise WindtunnelError(f"{len(failures)} measurements failed; the first: {failures[0]}")


if __name__ == "__main__":
    run_program(main)
