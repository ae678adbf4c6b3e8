"""The release of one framework's version as tasks of a run, each a program that can be run again.

python -m serving.tasks publish | verify | gate | promote | drill --run DIR --framework pytorch
python -m serving.tasks benchmark --run DIR --seconds 0.1
"""

import getpass
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.drill import drill as hold_drill
from serving.gate import judge, judge_speed, tabulate
from serving.release import Cause, Release
from windtunnel.aliases import Aliases
from windtunnel.benchmark import PROTOCOL_NAMES
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.program import run_app
from windtunnel.run import SKIPPED, Run
from windtunnel.settings import load_settings
from windtunnel.spans import noted
from windtunnel.spec import Framework

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

COMPARED = 20
"""Rounds of a comparison with a champion: less than `windtunnel bench --against` takes."""

Directory = Annotated[Path, typer.Option(help="The run's directory.")]
Which = Annotated[Framework, typer.Option(help="The framework whose version is released.")]


@app.command()
def publish(run: Directory, framework: Which) -> None:
    """Load the version beside those that are served, and warm it."""
    release, number = _release(run, framework)
    release.publish(number)
    print(f"{release.name} version {number} is loaded on {release.server.name}, and answers to its number alone")


@app.command()
def verify(run: Directory, framework: Which) -> None:
    """Hold the server's answers against the trainer's, over every protocol."""
    release, number = _release(run, framework)
    verified = Run(run).verified(framework)
    verified.unlink(missing_ok=True)  # of an earlier try
    release.verify(number)
    write_json(verified, {"name": release.name, "version": number, "server": release.server.name})
    protocols = " and ".join(PROTOCOL_NAMES[protocol] for protocol in release.server.protocols)
    print(f"{release.name} version {number} answers on {release.server.name} what its trainer answered, over {protocols}")


@app.command()
def benchmark(run: Directory, seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement.")]) -> None:
    """Measure every version that was verified, all in turns, and compare each with the champion it would follow."""
    from serving.benchmark import CELLS_SHORT, FLOORS_SHORT, ROUNDS_SHORT, USUAL_CELL, compare_versions, measure, write

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is cancelled leaves nothing on the servers
    here, settings = Run(run), load_settings()
    verified = [_release(run, framework) for framework in here.lineage().frameworks if here.verified(framework).exists()]
    with noted(here, "measuring"):
        versions = [release.fetch(number) for release, number in verified]
        result = measure(settings, versions, CELLS_SHORT, ROUNDS_SHORT, seconds, print, open_loop=False, floored=FLOORS_SHORT)
        for release, number in verified:
            champion = Aliases(settings).of(release.name).get("champion")
            if champion not in (None, number) and not result["partial"]:
                both = release.fetch(number), release.fetch(champion)
                compared = compare_versions(settings, *both, [USUAL_CELL], COMPARED, seconds, print)
                result["comparisons"] += compared["comparisons"]
                result["partial"] = compared["partial"]
        print(write(result, here.benchmark))
    if result["partial"]:
        raise WindtunnelError("the benchmark was interrupted: run its task again")


@app.command()
def gate(
    run: Directory,
    framework: Which,
    margin: Annotated[float, typer.Option(min=0, max=1, help="By how much it may be less accurate than the champion.")],
    speed_margin: Annotated[float, typer.Option(min=0, max=1, help="By which part of the champion's rate it may be slower.")] = 1.0,
    speed_gate: Annotated[bool, typer.Option(help="Whether a slower one stays challenger; else it is only warned of.")] = False,
) -> None:
    """Decide whether the version may take the champion's place."""
    if not Run(run).verified(framework).exists():
        print(f"{framework} has no version that was verified: the logs of its tasks `publish` and `verify` say why")
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
    run: Directory, framework: Which, approved_by: Annotated[str, typer.Option(help="Who approved it, if somebody was asked.")] = ""
) -> None:
    """Let users get the version."""
    release, number = _release(run, framework)
    here = Run(run)
    reason = json.loads(here.gate(framework).read_text())["reason"]
    release.promote(number, Cause(approved_by or getpass.getuser(), f"approved; {reason}" if approved_by else reason, here.name))
    how = release.server.example(release.name)
    write_json(here.released(framework), {"name": release.name, "version": number, "server": release.server.name, "example": how})
    print(f"users get {release.name} version {number} from {release.server.name}; ask it: {how}")


@app.command()
def drill(run: Directory, framework: Which) -> None:
    """Publish a broken version, and see that it is turned away while the champion answers."""
    release, number = _release(run, framework)
    print(hold_drill(release, number))


def _comparisons(run: Run, name: str) -> list[dict[str, Any]]:
    """What was measured of a registered model's challenger beside its champion; nothing where nothing was measured."""
    if not run.benchmark.exists():
        return []
    return [each for each in json.loads(run.benchmark.read_text())["comparisons"] if each["model"] == name]


def _release(run: Path, framework: Framework) -> tuple[Release, int]:
    registered = _registered(run, framework)
    return Release(load_settings(), registered["name"]), registered["version"]


def _registered(run: Path, framework: Framework) -> dict[str, Any]:
    file = Run(run).registered(framework)
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): run the `train` task of {framework} first") from error


if __name__ == "__main__":
    run_app(app)
