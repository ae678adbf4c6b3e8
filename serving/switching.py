"""What users notice of version switches: `promote` alternately between two versions, under a constant load.

    make bench-switch

Requests are sent at a constant rate, whether or not answers come, and a latency counts from when its request should have been sent. The
two versions answer differently, so an answer tells its version.
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

from serving.load import OpenLoop, Sample, percentile
from serving.server import PROTOCOLS, Protocol, Server, Version
from serving.servers import connect, server_of
from serving.stage import private_settings, running, train
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render

RATE = 50.0  # requests a second
PAUSE = 0.1  # seconds between switches
TIMES = 3.0  # the p99 during switches may be this many times the steady one


@dataclass(frozen=True)
class Outcome:
    """What one server did over one protocol. Latencies in seconds, 99th percentiles.

    `failed` counts requests without an answer, or with one that is of neither version; `wrong` those sent after `promote` had returned,
    and before it was called again, that another version answered. `during` are the requests that were on their way while `promote` ran.
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
        """Whether no user noticed."""
        return not self.failed and not self.wrong and self.during_p99 <= TIMES * self.steady_p99


@dataclass(frozen=True)
class Switch:
    """One call of `promote`: of which version, and when it was called and returned."""

    number: int
    called: float
    returned: float


def measure(server: Server, versions: tuple[Version, Version], protocol: Protocol, switches: int, rate: float = RATE) -> Outcome:
    """Switch between two published versions, as often as asked, and watch what users get meanwhile.

    Half of the steady load, as long as the switches will take, comes before them, and half after.
    """
    name = versions[0].name
    golden = {version.number: load_file(version.directory / "golden.safetensors") for version in versions}
    image, logits = golden[versions[0].number]["image"][:1], {number: each["logits"][:1] for number, each in golden.items()}

    def ask(_: int) -> int | None:
        """The version that answered, None of neither."""
        found = server.predict(name, image, protocol=protocol)["logits"]
        return next((number for number, wanted in logits.items() if np.allclose(found, wanted, rtol=1e-5, atol=1e-5)), None)

    server.promote(name, versions[0].number)
    for number in range(10):  # connections, and the first answers, which take longer
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
    """What the samples of a load say about the switches that were made under it."""
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
    """The outcomes for people."""
    table = Table(title=f"Version switches under {RATE:g} requests a second")
    headings = (
        "server",
        "protocol",
        "switches",
        "requests",
        "on their way",
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


def main(switches: Annotated[int, typer.Option(help="Of each server over each protocol.", min=1)] = 200) -> None:
    """Measure, print the table, write `switch.json` and `switch.txt` into the platform's `benchmarks` folder."""
    home = load_settings().home
    load = load_before()
    outcomes = []
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        for framework in ("pytorch", "tensorflow"):
            print(f"training two versions in {framework}", flush=True)
            versions = train(framework, 1, Path(place)), train(framework, 2, Path(place))
            settings = private_settings(Path(place) / f"home-{framework}")
            server = connect(server_of(versions[0].name), settings)
            servers.enter_context(running([sys.executable, "-m", f"serving.{server.name}.serve"], settings, server))
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
        raise WindtunnelError(f"a switch was noticed: failed and wrong must be 0, the p99 at most {TIMES:g} times the steady one")


if __name__ == "__main__":
    run_program(main)
