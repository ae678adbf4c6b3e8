"""The command line, `windtunnel`. Results are printed to stdout, with `--json` as JSON; progress and errors to stderr."""

import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.cli import signing
from windtunnel.cli.output import Json, print_json, print_table
from windtunnel.errors import WindtunnelError
from windtunnel.platform.program import run_app

if TYPE_CHECKING:  # imported where they are used: `windtunnel --help` answers at once
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from windtunnel.data.datasets import Content
    from windtunnel.platform.lifecycle import ProcessStatus
    from windtunnel.settings import Settings

app = typer.Typer(
    help="Train, compare, register and release models. Settings are environment variables, WINDTUNNEL_…: see docs/settings.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = "windtunnel.commands"  # entry points: commands of other packages, such as serving
AFTER_UP = "windtunnel.up"  # entry points: functions called when the platform is up; each returns changes and problems
NOT_ALL_UP = 3
INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    for point in entry_points(group=COMMANDS):
        app.command(point.name)(point.load())
    run_app(app)


@app.command()
def up(as_json: Json = False) -> None:
    """Start Airflow, MLflow, TensorBoard and the model servers in the background, and wait until they answer."""
    from windtunnel.platform import lifecycle
    from windtunnel.platform.airflow import Airflow
    from windtunnel.platform.environment import ignored

    settings = _settings()
    _tell_wrong_declarations()
    with _stderr().status("starting") as spinner:
        started = lifecycle.up(settings, spinner.update)
        Airflow(settings).ensure_pool()
        done = [point.load()(settings, spinner.update) for point in entry_points(group=AFTER_UP)]
    if started and (names := ignored(settings)):
        print(f"ignored environment variables: {', '.join(names)}", file=sys.stderr)
    changes, problems = ([line for each in done for line in each[kind]] for kind in (0, 1))
    if as_json:
        print_json({"started": started, "changes": changes, **_addresses(settings)})
    else:
        print("\n".join(["The platform is up." if started else "The platform is already up.", *changes]))
        _print_addresses(settings)
    if problems:
        raise WindtunnelError("; ".join(problems))


@app.command()
def down(as_json: Json = False) -> None:
    """Stop all processes of the platform, including running tasks."""
    from windtunnel.platform import lifecycle

    with _stderr().status("stopping"):
        stopped = lifecycle.down(_settings())
    if as_json:
        print_json({"stopped": stopped})
    else:
        print(f"The platform is down, {stopped} processes stopped." if stopped else "The platform is already down.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the state, pid, memory, restarts and address of each process of the platform. Exit with status 3 unless all are up."""
    from windtunnel.platform import lifecycle
    from windtunnel.platform.home import check_owner

    settings = _settings()
    check_owner(settings.home)
    _tell_wrong_declarations()
    processes = lifecycle.status(settings)
    everything = all(process.up for process in processes)
    if as_json:
        print_json({"up": everything, "processes": [asdict(process) for process in processes]})
    else:
        print_table(["process", "state", "pid", "memory", "restarts", "address"], [_row(process) for process in processes])
        for process in processes:
            if process.state == "failed":
                print(f"{process.name} failed: it ended repeatedly right after its start, see {process.log}; retry with `windtunnel up`")
    if not everything:
        raise typer.Exit(NOT_ALL_UP)


def _row(process: "ProcessStatus") -> list[str]:
    memory = f"{process.memory / 2**20:.0f} MiB" if process.pid else ""
    restarts = f"{process.restarts}, last {process.restarted[:19].replace('T', ' ')}" if process.restarted else ""
    return [process.name, process.state, str(process.pid or ""), memory, restarts, process.address or ""]


@app.command()
def run(
    dag: Annotated[str, typer.Argument(help="The id of the DAG, such as lenet5.")],
    param: Annotated[
        list[str] | None,
        typer.Option(help="A parameter of the DAG as name=value, such as epochs=2 or frameworks=pytorch,libtorch. Can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Trigger a DAG, follow the run and print its result. Exit with status 0 only if the run succeeds. Ctrl-C leaves it running."""
    from windtunnel.cli.follow import follow, show_failures
    from windtunnel.cli.params import parse_params
    from windtunnel.cli.watch import watch
    from windtunnel.platform.airflow import Airflow

    settings = _settings()
    console = _stderr()
    airflow = Airflow(settings)
    run_id = airflow.trigger(dag, parse_params(param or [], airflow.params(dag)))
    try:
        ended = follow(airflow, watch(settings, airflow, dag, run_id, lambda line: console.print(line, markup=False)), console)
    except KeyboardInterrupt:
        print(f"The run continues: {airflow.run(dag, run_id).url}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    failed = [task for task in ended.tasks if task.failed]
    show_failures(airflow, failed, console)
    published = settings.published
    addresses = {
        "run": ended.url,
        "models": f"{published.airflow_url}/plugin/models",
        "mlflow": published.mlflow_url,
        "tensorboard": published.tensorboard_url,
    }
    report = _report(settings, dag, run_id)
    if as_json:
        result = json.loads(report.with_suffix(".json").read_text()) if report.with_suffix(".json").exists() else None
        tasks = [{"name": task.name, "state": task.state, "seconds": task.seconds, "url": task.url} for task in ended.tasks]
        print_json({"dag_id": dag, "run_id": run_id, "state": ended.state, "tasks": tasks, "result": result, **addresses})
    else:
        if report.exists():
            print(report.read_text("utf-8"))
        for name, address in addresses.items():
            print(f"{name:12} {address}")
    if ended.state != "success":
        names = ", ".join(task.name for task in failed) or "no task"
        raise WindtunnelError(f"run {run_id} of {dag} {ended.state} ({names}): see {ended.url}")


@app.command()
def data(
    name: Annotated[
        str, typer.Argument(help="mnist, fashion_mnist, auto, recordings such as mini_speech_commands, or a data set of another package.")
    ],
    as_json: Json = False,
) -> None:
    """Find a data set of a model, or download or synthesise it. Verify it, and print its folder, SHA-256 and size."""
    found = _find_data(name, lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({"directory": found.directory, **found.lineage(), "counts": found.counts()})
    else:
        print(f"{found.directory}\nSHA-256 {found.fingerprint}")
        print(", ".join(f"{part} {count}" for part, count in found.counts().items()))


def _find_data(name: str, say: "Callable[[str], None]") -> "Content":
    """Return the data set `name` of the first declared model that knows it. The project's own models are the first.

    Raises:
        WindtunnelError: no model knows it, or it cannot be obtained.
    """
    from windtunnel.data.datasets import UnknownDataSetError, locate_among
    from windtunnel.data.other_words import SOURCES
    from windtunnel.model import models

    if name in SOURCES:  # other words are of no model: the trainer of the spoken commands finds them itself
        return locate_among(SOURCES, name, say)
    known: list[str] = []
    for model in {model.data: model for model in models().values()}.values():  # models may share a function
        try:
            return model.load(model.data)(name, say)
        except UnknownDataSetError as error:
            known += error.known
    _tell_wrong_declarations()
    raise UnknownDataSetError(name, dict.fromkeys((*known, *SOURCES)))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    options_metavar="",
)
def airflow(
    arguments: Annotated[list[str], typer.Argument(help="Arguments of the airflow command, such as: dags trigger lenet5.", metavar="…")],
) -> None:
    """Run Airflow's own command line with the platform's configuration."""
    from windtunnel.platform.environment import platform_environment

    environment = platform_environment(_settings())
    os.execvpe("airflow", ["airflow", *arguments], environment)


app.command()(signing.sign)
app.command()(signing.verify)


def _settings() -> "Settings":
    from windtunnel.settings import load_settings

    return load_settings()


def _tell_wrong_declarations() -> None:
    """Print what is wrong with declarations, a line each. The platform runs without them."""
    from windtunnel.backend import backend_problems
    from windtunnel.model import declarations

    for problem in (*backend_problems().values(), *declarations().problems.values()):
        print(f"wrong declaration: {problem}", file=sys.stderr)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _report(settings: "Settings", dag_id: str, run_id: str) -> "Path":
    from windtunnel.settings import run_directory

    return run_directory(settings.home, dag_id, run_id) / "report.txt"


def _addresses(settings: "Settings") -> dict[str, str]:
    from windtunnel.platform.secrets import USER, password_file

    published = settings.published
    return {
        "airflow": published.airflow_url,
        "mlflow": published.mlflow_url,
        "tensorboard": published.tensorboard_url,
        **{name: server.address for name, server in published.servers.items()},
        "user": USER,
        "password_file": str(password_file(settings)),
        "logs": str(settings.logs),
    }


def _print_addresses(settings: "Settings") -> None:
    from windtunnel.backend import backends

    found = _addresses(settings)
    print(f"Airflow      {found['airflow']}  (user {found['user']}, password in {found['password_file']})")
    print(f"MLflow       {found['mlflow']}\nTensorBoard  {found['tensorboard']}")
    for name, backend in backends().items():
        print(f"{backend.title:12} {found[name]}")
    print(f"Logs         {found['logs']}")
