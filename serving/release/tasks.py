"""The release of one framework's version as tasks of a run. Each task is a program that can be repeated.

python -m serving.release.tasks publish | verify | gate | promote | drill --run DIR --framework pytorch
python -m serving.release.tasks benchmark --run DIR --seconds 0.1
"""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.release.fire_drill import drill as hold_drill
from serving.release.gate import judge, judge_speed, tabulate
from serving.release.release import Cause, Release
from windtunnel.aliases import Aliases
from windtunnel.benchmark_result import PROTOCOL_NAMES
from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.log_groups import folded
from windtunnel.platform.program import run_app
from windtunnel.run import SKIPPED, Run
from windtunnel.settings import load_settings
from windtunnel.spans import noted

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

COMPARED = 20
"""Rounds of a comparison with a champion: fewer than `windtunnel bench --against` takes."""

Directory = Annotated[Path, typer.Option(help="The run's directory.")]
Which = Annotated[str, typer.Option(help="The framework whose version is released.")]


@app.command()
def publish(run: Directory, framework: Which) -> None:
    """Load the version next to the versions that are served, and warm it up."""
    release, number = _release(run, framework)
    release.publish(number)
    print(f"{release.name} version {number} is loaded on {release.server.name} and answers to its version number only")


@app.command()
def verify(run: Directory, framework: Which) -> None:
    """Compare the server's answers with the trainer's, over every protocol."""
    release, number = _release(run, framework)
    verified = Run(run).verified(framework)
    verified.unlink(missing_ok=True)  # from an earlier try
    release.verify(number)
    write_json(verified, {"name": release.name, "version": number, "server": release.server.name})
    protocols = " and ".join(PROTOCOL_NAMES[protocol] for protocol in release.server.protocols)
    print(f"{release.name} version {number} on {release.server.name} gives its trainer's answers over {protocols}")


@app.command()
def benchmark(run: Directory, seconds: Annotated[float, typer.Option(min=0.01, help="Seconds per measurement.")]) -> None:
    """Measure all verified versions in interleaved rounds, and compare each with the champion that it would replace."""
    from serving.benchmark.benchmark import BASELINES_SHORT, CELLS_SHORT, ROUNDS_SHORT, USUAL_CELL, compare_versions, measure, write

    here, settings = Run(run), load_settings()
    all_verified = [_release(run, framework) for framework in here.lineage().frameworks if here.verified(framework).exists()]
    verified = [each for each in all_verified if each[0].server.benchmarked]
    if all_verified and not verified:
        print("no version of this run is on a server that the benchmark can measure")
        sys.exit(SKIPPED)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up the servers when the run is cancelled
    with noted(here, "measuring"):
        for release, number in verified:
            if number not in release.server.served(release.name).versions:
                release.verify(number)  # another run's version has taken its place as challenger
        versions = [release.fetch(number) for release, number in verified]
        with folded("measurements"):
            result = measure(settings, versions, CELLS_SHORT, ROUNDS_SHORT, seconds, print, open_loop=False, with_baseline=BASELINES_SHORT)
            for release, number in verified:
                champion = Aliases(settings).of(release.name).get("champion")
                if champion not in (None, number) and not result.partial:
                    try:
                        both = release.fetch(number), release.fetch(champion)
                    except VersionError as error:
                        print(f"{release.name} is not compared with its champion: {error}")
                        continue
                    result = result.with_comparisons(compare_versions(settings, *both, [USUAL_CELL], COMPARED, seconds, print))
        print(write(result, here.benchmark))
    if result.partial:
        raise WindtunnelError("the benchmark was interrupted. Run its task again")


@app.command()
def gate(
    run: Directory,
    framework: Which,
    margin: Annotated[float, typer.Option(min=0, help="How much worse than the champion it may be, in the unit of the model's metric.")],
    speed_margin: Annotated[float, typer.Option(min=0, max=1, help="By what fraction of the champion's rate it may be slower.")] = 1.0,
    speed_gate: Annotated[bool, typer.Option(help="Do not promote a slower version; the default is to warn only.")] = False,
) -> None:
    """Decide whether the version may replace the champion."""
    if not Run(run).verified(framework).exists():
        print(f"{framework} has no verified version. See the logs of its tasks `publish` and `verify`")
        sys.exit(SKIPPED)
    registered, aliases = _registered(run, framework), Aliases(load_settings())
    challenger = aliases.version(registered["name"], registered["version"])
    number = aliases.of(challenger.name).get("champion")
    champion = aliases.version(challenger.name, number) if number else None
    verdict = judge(challenger, champion, margin)
    verdict = judge_speed(verdict, challenger, _comparisons(Run(run), challenger.name), speed_margin, speed_gate)
    file = Run(run).gate(framework)
    write_json(file, asdict(verdict))
    write_atomically(file.with_suffix(".md"), tabulate(challenger, champion, verdict).encode())
    print(verdict.reason)
    if not verdict.promote:
        sys.exit(SKIPPED)


@app.command()
def promote(
    run: Directory,
    framework: Which,
    who: Annotated[str, typer.Option(help="Who started the run: a person or a DAG.")],
    approved_by: Annotated[str, typer.Option(help="Who approved it, if approval was required.")] = "",
) -> None:
    """Make the version the champion."""
    release, number = _release(run, framework)
    here = Run(run)
    reason = json.loads(here.gate(framework).read_text())["reason"]
    why = f"approved; {reason}" if approved_by else reason
    release.promote(number, Cause(approved_by or who, why, here.name, here.lineage().run_id))
    how = release.server.example(release.name)
    write_json(here.released(framework), {"name": release.name, "version": number, "server": release.server.name, "example": how})
    print(f"users get {release.name} version {number} from {release.server.name}. Try it:\n{how}")


@app.command()
def drill(run: Directory, framework: Which) -> None:
    """Publish a broken version, and check that it is rejected while the champion answers."""
    release, number = _release(run, framework)
    print(hold_drill(release, number))


def _comparisons(run: Run, name: str) -> list[dict[str, Any]]:
    """Return the comparisons of a model's challenger with its champion; empty if nothing was measured."""
    if not run.benchmark.exists():
        return []
    return [each for each in json.loads(run.benchmark.read_text())["comparisons"] if each["model"] == name]


def _release(run: Path, framework: str) -> tuple[Release, int]:
    registered = _registered(run, framework)
    return Release(load_settings(), registered["name"]), registered["version"]


def _registered(run: Path, framework: str) -> dict[str, Any]:
    file = Run(run).registered(framework)
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}). Run the `train` task of {framework} first") from error


if __name__ == "__main__":
    run_app(app)
