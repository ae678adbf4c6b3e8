"""The commands that serving adds to `windtunnel`. They import what they need when they run, which keeps the command line fast."""

import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windtunnel.cli.connection import connected
from windtunnel.cli.output import Json, print_json, print_table
from windtunnel.errors import WindtunnelError

if TYPE_CHECKING:
    from serving.backends.base import Served, Version
    from serving.release.chain import Chain
    from serving.release.release import Cause, Release
    from windtunnel.model import Input
    from windtunnel.settings import Settings

MOST = 1024  # maximum of concurrent clients, and of samples per request (the limit of TorchServe's handler)
INTERRUPTED = 130  # exit status after Ctrl-C

Name = Annotated[str, typer.Argument(help="A registered model, such as lenet5-pytorch.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit log.")]


def deploy(
    version: Annotated[str, typer.Argument(help="The version; NAME alone is the newest one.", metavar="NAME[@VERSION|@ALIAS]")],
    why: Why = "deployed by hand",
    as_json: Json = False,
) -> None:
    """Publish a version, verify it over the real protocols, and make it the champion."""
    from serving.release.release import Release
    from windtunnel import registry
    from windtunnel.settings import load_settings

    settings = load_settings()
    with connected(settings) as mlflow:
        known = registry.resolve(mlflow, version)
    release = Release(settings, known.name)
    release.promote(known.version, _by_hand(why))
    _print_release(release, known.version, as_json)


def rollback(name: Name, why: Why = "rolled back by hand", as_json: Json = False) -> None:
    """Return to the previous champion. A second rollback undoes the first."""
    from serving.release.release import Release
    from windtunnel.settings import load_settings

    release = Release(load_settings(), name)
    number = release.rollback(_by_hand(why))
    _print_release(release, number, as_json)


def audit(
    digest: Annotated[
        str | None, typer.Argument(help="With --verify: a digest that was printed before; a line must have it.", metavar="[DIGEST]")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check that no line was changed, removed, added or put elsewhere.")] = False,
    as_json: Json = False,
) -> None:
    """Show every change of what users get: when, from which version to which, who, and why; or verify that the log is unchanged."""
    from serving.release import audit as log
    from windtunnel.settings import load_settings

    home = load_settings().serving
    if verify:
        _print_chain(log.verify(home, digest), digest, as_json)
        return
    if digest is not None:
        raise WindtunnelError(f"the digest {digest!r} is for --verify: `windtunnel audit --verify {digest}`")
    lines = log.read(home)
    if as_json:
        print_json(lines)
    elif not lines:
        print("Users have not got a version yet. Release one: `windtunnel run lenet5`.")
    else:
        keys = {"time": "time (UTC)", "model": "model", "action": "action", "from_version": "from", "to_version": "to"}
        keys |= {"who": "who", "run": "run", "why": "why"}
        rows = [[_plain(line.get(key)) for key in keys] for line in lines]
        print_table(list(keys.values()), [[row[0][:19].replace("T", " "), *row[1:]] for row in rows])


def predict(
    name: Name,
    files: Annotated[
        list[Path], typer.Argument(help="Pictures (PNG, JPEG), arrays (.npy) or IDX files; for speech, WAV files.", metavar="FILE…")
    ],
    server: Annotated[str | None, typer.Option(help="A model server, such as torchserve. Default: the server of the model.")] = None,
    version: Annotated[int | None, typer.Option(help="The version. Default: the champion.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Use gRPC. Default: REST, if the server has it.")] = False,
    as_json: Json = False,
) -> None:
    """Recognise the digits in pictures, the words in recordings, or what else a served model takes."""
    import numpy as np

    from serving.backends.base import ServerError
    from serving.backends.catalog import connect, server_of
    from serving.backends.images import reversed_images
    from windtunnel.golden import labels
    from windtunnel.model import declared
    from windtunnel.settings import load_settings

    port = connect(server or server_of(name), load_settings())
    model = declared(name)[0]
    read: Callable[[Path, Input], np.ndarray] = model.load(model.input.reader)
    answers: list[dict[str, Any]] = []
    for file in files:
        samples = read(file, model.input)
        if (warning := reversed_images(samples, model.input)) is not None:
            print(f"warning: {file}: {warning}", file=sys.stderr)
        try:
            outputs = port.predict(name, samples, version, "grpc" if grpc else port.protocols[0])
        except ServerError as error:
            if version is None and port.served(name).champion is None:
                raise WindtunnelError(f"{name} has no champion on {port.name} yet. Train one: `windtunnel run {model.name}`") from error
            raise
        words = outputs.get("words")
        for index, label in enumerate(labels(outputs[model.outputs[0].name])):
            rows = {output.name: outputs[output.name][index].tolist() for output in reversed(model.outputs)}
            answers.append({"file": str(file), "image": index, "label": int(label) if words is None else str(words[label]), **rows})
    if as_json:
        print_json(answers)
        return
    shown, heading, form = model.outputs[0].name, model.outputs[0].name, "{:g}"
    if any(output.name == "probabilities" for output in model.outputs):
        shown, heading, form = "probabilities", "probability", "{:.2%}"
    cells = [[answer["file"], str(answer["image"]), str(answer["label"]), form.format(np.max(answer[shown]))] for answer in answers]
    print_table(["file", "image", "label", heading], cells)


def reconcile(as_json: Json = False) -> None:
    """Make every server serve what the registry says, and report the changes."""
    from serving.release.release import reconcile_all
    from windtunnel.settings import load_settings

    changes, problems = reconcile_all(load_settings(), lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({"changes": changes, "problems": problems})
    elif not problems:
        print("Every server serves what the registry says." if not changes else f"{len(changes)} changes.")
    if problems:
        raise WindtunnelError("; ".join(problems))


def models(as_json: Json = False) -> None:
    """List the registered versions and what is actually loaded: metric, aliases, server, and origin."""
    from windtunnel import registry
    from windtunnel.settings import load_settings

    settings = load_settings()
    with connected(settings) as mlflow:
        versions = registry.list_versions(mlflow)
    served = {name: _served(name) for name in {known.name for known in versions}}
    if as_json:
        print_json([{**known.as_dict(), "served": _state(served[known.name], known.version)} for known in versions])
        return
    if not versions:
        print("No version is registered yet. Train some: `windtunnel run lenet5`.")
        return
    metrics = {known.metric.name for known in versions}
    rows = [
        [
            known.name,
            str(known.version),
            ", ".join(known.aliases),
            _state(served[known.name], known.version) or "",
            known.text if len(metrics) == 1 else known.measured,
            known.dag_run,
            known.git_commit[:10],
            known.data_fingerprint[:10],
            f"{known.created:%Y-%m-%d %H:%M}",
        ]
        for known in versions
    ]
    measured = metrics.pop() if len(metrics) == 1 else "metric"
    print_table(["model", "version", "aliases", "served", measured, "DAG run", "commit", "data", "created"], rows)


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="NAME alone is its champion. Default: every champion.", metavar="[NAME[@VERSION|@ALIAS]]…")
    ] = None,
    against: Annotated[int | None, typer.Option(help="Compare the named version with this version of the same model.")] = None,
    concurrency: Annotated[str | None, typer.Option(help="Concurrent clients. Default: 1,10,50; with --against 10.")] = None,
    batch: Annotated[str | None, typer.Option(help="Samples per request. Default: 1,8,32; with --against 1.")] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="Rounds. Default: 5; with --against 30, and more while the result is unclear.", min=1, max=10_000),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds per measurement. Default: 1; with --against 0.1.", min=0.05, max=3600)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure served models: requests per second and latency over each protocol, all answers checked. Ctrl-C keeps partial results."""
    from serving.benchmark.benchmark import ROUNDS, USUAL_CELL, compare_versions, measure, seconds_needed, write
    from serving.benchmark.comparison import ROUNDS as COMPARED_ROUNDS
    from serving.benchmark.rounds import Cell
    from serving.benchmark.table import tabulate
    from serving.release.release import Release
    from windtunnel.settings import load_settings

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    settings = load_settings()
    together = _numbers("--concurrency", concurrency) or ([1, 10, 50] if against is None else [USUAL_CELL.concurrency])
    sizes = _numbers("--batch", batch) or ([1, 8, 32] if against is None else [USUAL_CELL.batch])
    cells = [Cell(clients, images) for images in sizes for clients in together]
    rounds = rounds or (ROUNDS if against is None else COMPARED_ROUNDS)
    seconds = seconds or (1.0 if against is None else 0.1)
    try:
        chosen = _to_measure(settings, names or [], against)
        if against is None:
            needed = seconds_needed(chosen, cells, rounds, seconds)
            say(f"this takes about {max(1, round(needed / 60))} min; Ctrl-C ends it and keeps the finished rounds")
            result = measure(settings, chosen, cells, rounds, seconds, say)
        else:
            other = Release(settings, chosen[0].name).fetch(against)
            result = compare_versions(settings, chosen[0], other, cells, rounds, seconds, say)
    except KeyboardInterrupt:  # before the first measurement
        raise typer.Exit(INTERRUPTED) from None
    print(json.dumps(result.model_dump(), indent=2, sort_keys=True) if as_json else tabulate(result), flush=True)
    file = settings.home / "benchmarks" / "bench.json"
    try:
        write(result, file)
    except OSError as error:  # a container may not be able to write there
        say(f"warning: {file} cannot be written ({error.strerror}). The result is printed here only")
    if result.partial:
        raise typer.Exit(INTERRUPTED)
    if invalid := result.invalid:
        measured = len(result.rows) + len(result.comparisons)
        raise WindtunnelError(f"{len(invalid)} of {measured} measurements have no figure; the first: {invalid[0].invalid}")


def _to_measure(settings: "Settings", names: list[str], against: int | None) -> "list[Version]":
    """Return the versions to measure, with their files.

    Raises:
        WindtunnelError: there are no such versions, or two are of the same model.
    """
    from serving.backends.catalog import connect, find_server
    from serving.release.release import Release
    from windtunnel import registry

    with connected(settings) as mlflow:
        if names:
            known = [registry.resolve(mlflow, name if "@" in name else f"{name}@champion") for name in names]
        else:
            champions = [each for each in registry.list_versions(mlflow) if "champion" in each.aliases]
            known = [each for each in champions if (server := find_server(each.name)) and connect(server, settings).benchmarked]
    if not known:
        raise WindtunnelError("no model has a champion yet. Train and release some: `windtunnel run lenet5`")
    if len({each.name for each in known}) < len(known):
        raise WindtunnelError(f"{', '.join(names)} are versions of the same model. To compare two, use NAME@VERSION --against VERSION")
    if against is not None and len(names) != 1:
        raise WindtunnelError(f"--against needs exactly one model: found {len(names)}. Name one, such as {known[0].name}")
    return [Release(settings, each.name).fetch(each.version) for each in known]


def _numbers(flag: str, text: str | None) -> list[int]:
    """Parse a flag such as 1,10,50, without duplicates; empty if the flag is not given."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) <= 4 and 1 <= int(word) <= MOST for word in words):
        raise WindtunnelError(f"invalid {flag}: found {text!r}, expected whole numbers from 1 to {MOST}, such as 1,10,50")
    return list(dict.fromkeys(map(int, words)))


def _served(name: str) -> "Served | None":
    """Return what is served of a model; None if its server does not answer."""
    from serving.backends.base import Served, ServerError
    from serving.backends.catalog import connect, find_server
    from windtunnel.settings import load_settings

    server = find_server(name)
    if server is None:
        return Served(frozenset(), None)
    try:
        return connect(server, load_settings()).served(name)
    except ServerError:
        return None


def _state(served: "Served | None", version: int) -> str | None:
    if served is None:
        return "no answer"
    return "to users" if served.champion == version else "loaded" if version in served.versions else None


def _plain(value: object) -> str:
    """Return a value for a terminal: what a reason has of line breaks and control characters is a space."""
    return "" if value is None else "".join(each if each.isprintable() else " " for each in str(value))


def _print_chain(chain: "Chain", digest: str | None, as_json: bool) -> None:
    from windtunnel.tables import counted

    last = next(reversed(chain.lines), None)
    if as_json:
        print_json({"lines": len(chain.lines), "digest": last, "older": chain.older, "cut_off": chain.cut_off})
        return
    if last is None:
        older = f"No line has a digest yet. The next one begins the chain and covers the {counted(chain.older, 'line')} before it."
        print(older if chain.older else "The log has no line yet.")
        return
    checked, number = counted(len(chain.lines), "line"), chain.lines[last]
    print(f"{checked} checked: unchanged and in order. Line {number}, the last, has the digest\n{last}")
    if digest is not None:
        print(f"Line {chain.lines[digest]} has the digest that was given: nothing up to it was removed.")
    if chain.older:
        first = chain.lines[next(iter(chain.lines))]
        print(f"{counted(chain.older, 'line')} before the digests began: unchanged since line {first} was written, and not checked before.")
    for number in chain.cut_off:
        print(f"Line {number} is cut off, by a power cut or by somebody: unchanged since line {number + 1} was written.")


def _by_hand(why: str) -> "Cause":
    from serving.release.release import Cause

    return Cause(getpass.getuser(), why)


def _print_release(release: "Release", number: int, as_json: bool) -> None:
    name, server, example = release.name, release.server.name, release.server.example(release.name)
    if as_json:
        print_json({"name": name, "version": number, "server": server, "example": example})
    else:
        print(f"Users get {name} version {number} from {server}. Try it:\n{example}")
