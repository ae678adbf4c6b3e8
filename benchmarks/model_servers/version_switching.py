"""Measure what users notice of version switches: call `promote` alternately for two versions under constant load.

    make bench-switch

Requests are sent at a constant rate, whether or not answers arrive, and latency counts from the time a request should have been sent. The
two versions answer differently, so each answer shows which version gave it.
"""

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.running_servers import private_settings, running, train
from serving.backends.base import PROTOCOLS, Protocol, Server, Version
from serving.backends.catalog import connect, server_of
from serving.load.generators import OpenLoop, Sample, percentile
from windtunnel.backend import find_backend
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render

RATE = 50.0  # requests per second
PAUSE = 0.1  # seconds between switches
TIMES = 3.0  # maximum p99 during switches, as a multiple of the steady p99


@dataclass(frozen=True)
class Outcome:
    """The result for one server over one protocol. Latencies are 99th percentiles, in seconds.

    `failed` counts requests that got no answer, or an answer of neither version. `wrong` counts requests that were sent between two calls
    of `promote` and answered by the version that was not promoted. `during` counts requests that were in flight while `promote` ran.
    """

    server: str
    protocol: Protocol
    switches: int
    requests: int
    during_switches: int
    failed: int
    wrong: int
    steady_p99: float
    during_p99: float
    promote_median: float

    @property
    def passed(self) -> bool:
        """Return whether users noticed nothing."""
        return not self.failed and not self.wrong and self.during_p99 <= TIMES * self.steady_p99


@dataclass(frozen=True)
class Switch:
    """One call of `promote`: the version, and the times of call and return."""

    number: int
    called: float
    returned: float


def measure(server: Server, versions: tuple[Version, Version], protocol: Protocol, switches: int, rate: float = RATE) -> Outcome:
    """Switch between two published versions `switches` times, and measure what users get in the meantime.

    The steady load lasts about as long as the switches; half of it runs before them and half after.
    """
    name = versions[0].name
    golden = {version.number: load_file(version.directory / "golden.safetensors") for version in versions}
    image, logits = golden[versions[0].number]["image"][:1], {number: each["logits"][:1] for number, each in golden.items()}

    def ask(_: int) -> int | None:
        """Return the version that answered, or None if it was neither."""
        found = server.predict(name, image, protocol=protocol)["logits"]
        return next((number for number, wanted in logits.items() if np.allclose(found, wanted, rtol=1e-5, atol=1e-5)), None)

    server.promote(name, versions[0].number)
    for number in range(10):  # opens connections; the first answers take longer
        ask(number)
    steady = max(2.0, switches * PAUSE)
    done: list[Switch] = []
    with OpenLoop(ask, rate) as load:
        time.sleep(steady)
        for index in range(switches):
            number = versions[(index + 1) % 2].number
            called = time.perf_counter()
            server.promote(name, number)
            done.append(Switch(number, called, time.perf_counter()))
            time.sleep(PAUSE)
        time.sleep(steady)
    return judge(server.name, protocol, load.samples, done)


def judge(server: str, protocol: Protocol, samples: list[Sample], switches: list[Switch]) -> Outcome:
    """Compute the outcome from the samples of a load and the switches made under it."""
    first, last = switches[0].called, switches[-1].returned
    during = [sample for sample in samples if any(sample.sent < each.returned and sample.answered > each.called for each in switches)]
    steady = [sample for sample in samples if sample.answered < first or sample.sent > last + PAUSE]
    nexts = [each.called for each in switches[1:]] + [float("inf")]
    wrong = [
        sample
        for each, until in zip(switches, nexts, strict=True)
        for sample in samples
        if each.returned <= sample.sent and sample.answered <= until and isinstance(sample.answer, int) and sample.answer != each.number
    ]
    return Outcome(
        server=server,
        protocol=protocol,
        switches=len(switches),
        requests=len(samples),
        during_switches=len(during),
        failed=sum(not isinstance(sample.answer, int) for sample in samples),
        wrong=len(wrong),
        steady_p99=percentile([sample.latency for sample in steady], 99),
        during_p99=percentile([sample.latency for sample in during], 99),
        promote_median=percentile([each.returned - each.called for each in switches], 50),
    )


def tabulate(outcomes: list[Outcome]) -> Table:
    """Format the outcomes."""
    table = Table(title=f"Version switches under {RATE:g} requests per second")
    headings = (
        "server",
        "protocol",
        "switches",
        "requests",
        "in flight",
        "failed",
        "wrong version",
        "p99 steady",
        "p99 switching",
        "promote",
        "",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("server", "protocol", "") else "right")
    for each in outcomes:
        times = [f"{1000 * seconds:.1f} ms" for seconds in (each.steady_p99, each.during_p99, each.promote_median)]
        counts = [f"{count:,}" for count in (each.switches, each.requests, each.during_switches, each.failed, each.wrong)]
        table.add_row(each.server, each.protocol, *counts, *times, "passed" if each.passed else "missed")
    return table


def main(switches: Annotated[int, typer.Option(help="Switches per server and protocol.", min=1)] = 200) -> None:
    """Measure, print the table, and write `switch.json` and `switch.txt` into the platform's `benchmarks` directory."""
    home = load_settings().home
    load = load_before()
    outcomes = []
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        for framework in ("pytorch", "tensorflow"):
            print(f"training two versions with {framework}", flush=True)
            versions = train(framework, 1, Path(place)), train(framework, 2, Path(place))
            settings = private_settings(Path(place) / f"home-{framework}")
            server = connect(server_of(versions[0].name), settings)
            servers.enter_context(running([sys.executable, "-m", find_backend(server.name).program], settings, server))
            for version in versions:
                server.load(version)
            for protocol in PROTOCOLS:
                outcomes.append(measure(server, versions, protocol, switches))
                print(f"{server.name} {protocol}: {outcomes[-1]}", flush=True)
    result: dict[str, Any] = {"commit": git_commit(ROOT), "load_before": load, "rate": RATE}
    result["outcomes"] = [asdict(each) | {"passed": each.passed} for each in outcomes]
    text = render(tabulate(outcomes))
    keep(home, "switch", result, text)
    print(text)
    if not all(each.passed for each in outcomes):
        raise WindtunnelError(f"users noticed a switch: expected 0 failed, 0 wrong and a p99 of at most {TIMES:g} times the steady one")


if __name__ == "__main__":
    run_program(main)
