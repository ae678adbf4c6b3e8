"""The commands that serving adds to `windtunnel`. What they need is imported when they run: the command line answers at once."""

import getpass
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.output import Json, print_json, print_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from serving.release import Cause, Release
    from serving.server import Served, Version
    from windtunnel.settings import Settings

MOST = 1024  # clients at once, or images a request: what TorchServe's handler takes
INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended

Name = Annotated[str, typer.Argument(help="The registered model, such as lenet5-pytorch.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit log.")]


def deploy(
    version: Annotated[str, typer.Argument(help="NAME alone is its newest version.", metavar="NAME[@VERSION|@ALIAS]")],
    why: Why = "deployed by hand",
    as_json: Json = False,
) -> None:
    """Publish a version, verify it through the real protocols, and let users get it."""
    from serving.release import Release
    from windtunnel import registry
    from windtunnel.settings import load_settings

    settings = load_settings()
    with _mlflow(settings) as mlflow:
        known = registry.resolve(mlflow, version)
    release = Release(settings, known.name)
    release.promote(known.version, _by_hand(why))
    _print_release(release, known.version, as_json)


def rollback(name: Name, why: Why = "rolled back by hand", as_json: Json = False) -> None:
    """Let users get the version they got before. A second rollback takes the first one back."""
    from serving.release import Release
    from windtunnel.settings import load_settings

    release = Release(load_settings(), name)
    number = release.rollback(_by_hand(why))
    _print_release(release, number, as_json)


def predict(
    name: Name,
    files: Annotated[
        list[Path], typer.Argument(help="Pictures (PNG, JPEG), arrays (.npy) or IDX files; of speech, WAVs.", metavar="FILE…")
    ],
    server: Annotated[str | None, typer.Option(help="torchserve, tfserving or speech; by default the one that has the model.")] = None,
    version: Annotated[int | None, typer.Option(help="The version to ask; by default the champion.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Ask over gRPC; by default over REST, where there is REST.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a served model which digits the pictures show, or which words are said."""
    from serving.servers import connect, server_of
    from windtunnel.settings import load_settings

    port = connect(server or server_of(name), load_settings())
    read: Callable[[Path], Any]
    if port.name == "speech":
        from windtunnel.wav import read_clip

        read = partial(read_clip, say=lambda line: print(line, file=sys.stderr))
    else:
        from serving.images import read_images

        read = read_images
    answers = []
    for file in files:
        outputs = port.predict(name, read(file), version, "grpc" if grpc else port.protocols[0])
        words = outputs.get("words")
        for index, (logits, probabilities) in enumerate(zip(outputs["logits"], outputs["probabilities"], strict=True)):
            answers.append(
                {
                    "file": str(file),
                    "image": index,
                    "label": int(logits.argmax()) if words is None else str(words[logits.argmax()]),
                    "probabilities": probabilities.tolist(),
                    "logits": logits.tolist(),
                }
            )
    if as_json:
        print_json(answers)
        return
    rows = [[answer["file"], str(answer["image"]), str(answer["label"]), f"{max(answer['probabilities']):.2%}"] for answer in answers]
    print_table(["file", "image", "label", "probability"], rows)


def reconcile(as_json: Json = False) -> None:
    """Make every server serve what the registry says, and say what was changed."""
    from serving.release import reconcile_all
    from windtunnel.settings import load_settings

    changes, problems = reconcile_all(load_settings(), lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({"changes": changes, "problems": problems})
    elif not problems:
        print("Every server serves what the registry says." if not changes else f"{len(changes)} changes.")
    if problems:
        raise WindtunnelError("; ".join(problems))


def models(as_json: Json = False) -> None:
    """List the registered versions beside what is really loaded: accuracy, aliases, server, and where each comes from."""
    from windtunnel import registry
    from windtunnel.settings import load_settings

    settings = load_settings()
    with _mlflow(settings) as mlflow:
        versions = registry.list_versions(mlflow)
    served = {name: _served(name) for name in {known.name for known in versions}}
    if as_json:
        print_json([{**asdict(known), "served": _state(served[known.name], known.version)} for known in versions])
        return
    if not versions:
        print("No version is registered yet: train some with `windtunnel run lenet5`.")
        return
    rows = [
        [
            known.name,
            str(known.version),
            ", ".join(known.aliases),
            _state(served[known.name], known.version) or "",
            f"{known.accuracy:.2%}",
            known.dag_run,
            known.git_commit[:10],
            known.data_fingerprint[:10],
            f"{known.created:%Y-%m-%d %H:%M}",
        ]
        for known in versions
    ]
    print_table(["model", "version", "aliases", "served", "accuracy", "DAG run", "commit", "data", "created"], rows)


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="NAME alone is its champion; nothing, every champion.", metavar="[NAME[@VERSION|@ALIAS]]…")
    ] = None,
    against: Annotated[int | None, typer.Option(help="Say whether the one named is faster or slower than this version of it.")] = None,
    concurrency: Annotated[str | None, typer.Option(help="Clients at once: 1,10,50; against a version 10.")] = None,
    batch: Annotated[str | None, typer.Option(help="Images a request: 1,8,32; against a version 1.")] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="How often everything is measured: 5; against a version 30, and more while it is unclear.", min=1, max=10_000),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Of each measurement: 1; against a version 0.1.", min=0.05, max=3600)] = None,
    as_json: Json = False,
) -> None:
    """Measure served models: requests a second and latencies over each protocol, every answer checked. Ctrl-C keeps what there is."""
    from serving.benchmark import ROUNDS, USUAL_CELL, Cell, compare_versions, measure, seconds_needed, write
    from serving.benchmark_table import tabulate
    from serving.comparison import ROUNDS as COMPARED_ROUNDS
    from serving.release import Release
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
            say(f"this takes about {max(1, round(needed / 60))} min; Ctrl-C keeps what there is by then")
            result = measure(settings, chosen, cells, rounds, seconds, say)
        else:
            other = Release(settings, chosen[0].name).fetch(against)
            result = compare_versions(settings, chosen[0], other, cells, rounds, seconds, say)
    except KeyboardInterrupt:  # before anything was measured
        raise typer.Exit(INTERRUPTED) from None
    print(json.dumps(result, indent=2, sort_keys=True) if as_json else tabulate(result), flush=True)
    file = settings.home / "benchmarks" / "bench.json"
    try:
        write(result, file)
    except OSError as error:  # in a container that cannot write there
        say(f"warning: {file} cannot be written ({error.strerror}): what is printed here is all there is")
    if result["partial"]:
        raise typer.Exit(INTERRUPTED)
    measured = [*result["rows"], *result["comparisons"]]
    if invalid := [row["invalid"] for row in measured if row["invalid"]]:
        raise WindtunnelError(f"{len(invalid)} of {len(measured)} measurements give no figure, the first: {invalid[0]}")


def _to_measure(settings: "Settings", names: list[str], against: int | None) -> "list[Version]":
    """The versions that a benchmark is asked for, with their files.

    Raises:
        WindtunnelError: there are none such, or two of one model.
    """
    from serving.release import Release
    from serving.servers import find_server
    from windtunnel import registry

    with _mlflow(settings) as mlflow:
        if names:
            known = [registry.resolve(mlflow, name if "@" in name else f"{name}@champion") for name in names]
        else:
            champions = [each for each in registry.list_versions(mlflow) if "champion" in each.aliases]
            known = [each for each in champions if find_server(each.name) in ("torchserve", "tfserving")]
    if not known:
        raise WindtunnelError("no model has a champion yet: `windtunnel run lenet5` trains and releases some")
    if len({each.name for each in known}) < len(known):
        raise WindtunnelError(f"{', '.join(names)} are versions of one model: NAME@VERSION --against VERSION compares two")
    if against is not None and len(names) != 1:
        raise WindtunnelError(f"--against compares two versions of one model: name one, such as {known[0].name}, not {len(names)}")
    return [Release(settings, each.name).fetch(each.version) for each in known]


def _numbers(flag: str, text: str | None) -> list[int]:
    """What a flag such as 1,10,50 holds, each once; nothing where it is not given."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) <= 4 and 1 <= int(word) <= MOST for word in words):
        raise WindtunnelError(f"{flag} is {text!r}: give whole numbers from 1 to {MOST}, such as 1,10,50")
    return list(dict.fromkeys(map(int, words)))


def _served(name: str) -> "Served | None":
    """What is served of a model; None where its server does not answer."""
    from serving.server import Served, ServerError
    from serving.servers import connect, find_server
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


@contextmanager
def _mlflow(settings: "Settings") -> Iterator["MlflowClient"]:
    """MLflow's client. It would try for minutes to reach a server that is down: the aliases are asked first, and say so at once."""
    from windtunnel.aliases import Aliases

    Aliases(settings).all()
    from windtunnel import tracking

    with tracking.reachable(settings):
        yield tracking.client(settings)


def _by_hand(why: str) -> "Cause":
    from serving.release import Cause

    return Cause(getpass.getuser(), why)


def _print_release(release: "Release", number: int, as_json: bool) -> None:
    name, server, example = release.name, release.server.name, release.server.example(release.name)
    if as_json:
        print_json({"name": name, "version": number, "server": server, "example": example})
    else:
        print(f"Users get {name} version {number} from {server}. Ask it: {example}")
