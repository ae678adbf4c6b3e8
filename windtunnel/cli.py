"""The command line, `windtunnel`. What is asked for goes to stdout, as JSON with `--json`; progress and errors go to stderr."""

import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.output import Json, print_json, print_table
from windtunnel.program import run_app

if TYPE_CHECKING:  # imported where they are used: `windtunnel --help` answers at once
    from pathlib import Path

    from rich.console import Console

    from windtunnel.platform import ProcessStatus
    from windtunnel.settings import Settings

app = typer.Typer(
    help="Train, compare and register models on Airflow. Every setting is an environment variable, WINDTUNNEL_…: see README.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = "windtunnel.commands"  # entry points: commands that other packages, such as serving, add
AFTER_UP = "windtunnel.up"  # entry points: what is to be done when the platform is up, returning changes and problems
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
    from windtunnel import platform
    from windtunnel.airflow import Airflow
    from windtunnel.environment import ignored

    settings = _settings()
    with _stderr().status("starting") as spinner:
        started = platform.up(settings, spinner.update)
        # One at a time: they share the machine, and their times are compared.
        Airflow(settings).ensure_pool("measured", 1, "Training and benchmarks, one at a time")
        done = [point.load()(settings, spinner.update) for point in entry_points(group=AFTER_UP)]
    if started and (names := ignored(settings)):
        print(f"ignored from the environment: {', '.join(names)}", file=sys.stderr)
    changes, problems = ([line for each in done for line in each[kind]] for kind in (0, 1))
    if as_json:
        print_json({"started": started, "changes": changes, **_addresses(settings)})
    else:
        print("\n".join(["The platform is up." if started else "The platform was up already.", *changes]))
        _print_addresses(settings)
    if problems:
        raise WindtunnelError("; ".join(problems))


@app.command()
def down(as_json: Json = False) -> None:
    """Stop the platform and every task that runs on it. No process stays."""
    from windtunnel import platform

    with _stderr().status("stopping"):
        stopped = platform.down(_settings())
    if as_json:
        print_json({"stopped": stopped})
    else:
        print(f"The platform is down, {stopped} processes stopped." if stopped else "The platform was down already.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show each process of the platform: its state, pid, memory, restarts, address. Exit status 3 unless all are up."""
    from windtunnel import platform
    from windtunnel.home import check_owner

    settings = _settings()
    check_owner(settings.home)
    processes = platform.status(settings)
    everything = all(process.up for process in processes)
    if as_json:
        print_json({"up": everything, "processes": [asdict(process) for process in processes]})
    else:
        print_table(["process", "state", "pid", "memory", "restarts", "address"], [_row(process) for process in processes])
        for process in processes:
            if process.state == "failed":
                print(f"{process.name} failed: it ends as soon as it is started, see {process.log}; `windtunnel up` tries again")
    if not everything:
        raise typer.Exit(NOT_ALL_UP)


def _row(process: "ProcessStatus") -> list[str]:
    memory = f"{process.memory / 2**20:.0f} MiB" if process.pid else ""
    restarts = f"{process.restarts}, last {process.restarted[:19].replace('T', ' ')}" if process.restarted else ""
    return [process.name, process.state, str(process.pid or ""), memory, restarts, process.address or ""]


@app.command()
def run(
    dag: Annotated[str, typer.Argument(help="The DAG, such as lenet5.")],
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter, name=value: epochs=2, frameworks=pytorch,libtorch. May be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Trigger a DAG, follow the run and print its result. Exit status 0 only if the run succeeded; Ctrl-C leaves it running."""
    from windtunnel.airflow import Airflow
    from windtunnel.follow import follow, show_failures
    from windtunnel.params import parse_params
    from windtunnel.watch import watch

    settings = _settings()
    console = _stderr()
    airflow = Airflow(settings)
    run_id = airflow.trigger(dag, parse_params(param or [], airflow.params(dag)))
    try:
        ended = follow(airflow, watch(settings, airflow, dag, run_id, lambda line: console.print(line, markup=False)), console)
    except KeyboardInterrupt:
        print(f"The run goes on: {airflow.run(dag, run_id).url}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    failed = [task for task in ended.tasks if task.failed]
    show_failures(airflow, failed, console)
    addresses = {"run": ended.url, "mlflow": settings.published.mlflow_url, "tensorboard": settings.published.tensorboard_url}
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
    name: Annotated[str, typer.Argument(help="Images: mnist, fashion_mnist, or auto. Recordings: by their name.")],
    as_json: Json = False,
) -> None:
    """Find a data set along the search path, or download or make it; verify all of it, and print where it is."""
    from windtunnel.datasets import KNOWN, Content, Source, locate_among
    from windtunnel.others import SOURCES
    from windtunnel.recordings import sources_with

    sources: dict[str, Source[Content]] = {**KNOWN, **sources_with(name), **SOURCES}
    found = locate_among(sources, name, lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({"directory": found.directory, **found.lineage(), "counts": found.counts()})
    else:
        print(f"{found.directory}\nSHA-256 {found.fingerprint}")
        print(", ".join(f"{part} {count}" for part, count in found.counts().items()))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    options_metavar="",
)
def airflow(arguments: Annotated[list[str], typer.Argument(help="As for the command airflow: dags trigger lenet5.", metavar="…")]) -> None:
    """Run Airflow's own command line with the platform's configuration."""
    from windtunnel.environment import platform_environment

    environment = platform_environment(_settings())
    os.execvpe("airflow", ["airflow", *arguments], environment)


def _settings() -> "Settings":
    from windtunnel.settings import load_settings

    return load_settings()


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _report(settings: "Settings", dag_id: str, run_id: str) -> "Path":
    from windtunnel.settings import run_directory

    return run_directory(settings.home, dag_id, run_id) / "report.txt"


def _addresses(settings: "Settings") -> dict[str, str]:
    from windtunnel.environment import USER, password_file

    published = settings.published
    return {
        "airflow": published.airflow_url,
        "mlflow": published.mlflow_url,
        "tensorboard": published.tensorboard_url,
        "torchserve": published.torchserve_url,
        "tfserving": published.tfserving_url,
        "speech": published.speech_grpc,
        "user": USER,
        "password_file": str(password_file(settings)),
        "logs": str(settings.logs),
    }


def _print_addresses(settings: "Settings") -> None:
    found = _addresses(settings)
    print(f"Airflow      {found['airflow']}  (user {found['user']}, password in {found['password_file']})")
    print(f"MLflow       {found['mlflow']}\nTensorBoard  {found['tensorboard']}")
    print(f"TorchServe   {found['torchserve']}\nTF Serving   {found['tfserving']}\nSpeech       {found['speech']}")
    print(f"Logs         {found['logs']}")
