"""The result of a run: accuracy, training time, parity and release of its frameworks, side by side.

    python -m train_server.report --run DIR --started SECONDS

It runs last, and also after a failure: then it says what is missing, and fails.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from mlflow.entities import Metric
from rich.table import Table

from train_server.page import page
from train_server.record import record
from windtunnel.benchmark import Benchmark, read_benchmark
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import Settings, load_settings
from windtunnel.spans import split, tell
from windtunnel.spec import Framework
from windtunnel.tables import counted, render
from windtunnel.tracking import client, reachable

NOT_RELEASED = "not released"


def summarise(run: Run, started: float, ended: float) -> dict[str, Any]:
    """What the run came to: `spec`, a row a framework in `frameworks`, `parity` (`passed`, `failed`, `missing`), `missing` steps.

    Of a row, `release` says how far the version came, and `example`, if users get it, how to ask for it. `split` is what the time from
    `started` to `ended`, in seconds since 1970, was spent on.
    """
    lineage = run.lineage()
    parity, missing = "missing", []
    rows: dict[Framework, dict[str, Any]] = {}
    for framework in lineage.frameworks:
        registered = run.registered(framework)
        if not registered.exists():
            missing.append(f"a registered version of {framework}")
            continue
        version = json.loads(registered.read_text())
        metrics = read_manifest(run.version(framework)).metrics.model_dump()
        rows[framework] = {"name": version["name"], "version": version["version"], **metrics, **release_of(run, framework)}
    if run.certificate.exists():
        parity = "passed" if json.loads(run.certificate.read_text())["passed"] else "failed"
    if parity != "passed":
        missing.append(f"a parity certificate that passed (it {'is missing' if parity == 'missing' else 'failed'})")
    else:
        missing += [f"a release of {framework}" for framework, row in rows.items() if row["release"] == NOT_RELEASED]
    return {
        "run": run.name,
        "spec": run.spec().model_dump(),
        "frameworks": rows,
        "parity": parity,
        "benchmark": _headline(read_benchmark(run.benchmark)),
        "split": split(run, started, ended),
        "missing": missing,
        "lineage": lineage.model_dump(),
    }


def _headline(benchmark: Benchmark | None) -> list[dict[str, Any]] | None:
    """Of each model and protocol the requests a second where many clients ask for one image each, or why there is no figure."""
    if benchmark is None:
        return None
    names = ("model", "version", "protocol", "concurrency", "invalid")
    figures = [{"requests_per_second": row.rate if row.measured else None} for row in benchmark.usual]
    return [{name: getattr(row, name) for name in names} | figure for row, figure in zip(benchmark.usual, figures, strict=True)]


def release_of(run: Run, framework: Framework) -> dict[str, Any]:
    """How far a version came: `release`, the `reason` where users do not get it, and an `example` of how to ask it where they do."""
    if run.released(framework).exists():
        released = json.loads(run.released(framework).read_text())
        return {"release": f"champion on {released['server']}", "reason": None, "example": released["example"]}
    if not run.gate(framework).exists():
        return {"release": NOT_RELEASED, "reason": None, "example": None}
    gate = json.loads(run.gate(framework).read_text())
    return {"release": "challenger", "reason": "it was not approved or promoted" if gate["promote"] else gate["reason"], "example": None}


def explain(result: dict[str, Any], settings: Settings) -> str:
    """Why a version is not the champion, or how to ask it, by the command line or by itself; a paragraph a version that was released."""
    lines = []
    if any(row["example"] for row in result["frameworks"].values()):
        lines.append(f"in the project's folder{', after `. .venv/bin/activate`' if settings.runtime == 'process' else ''}:")
        if (dataset := result["spec"]["dataset"]) != "mnist":
            lines.append(f"(the models know {dataset}; img/digit.png is of MNIST, and its label says nothing)")
    for row in result["frameworks"].values():
        if row["example"]:
            lines.append(f"ask {row['name']}:\n  {settings.command} predict {row['name']} img/digit.png\n  {row['example']}")
        elif row["reason"]:
            lines.append(f"{row['name']} version {row['version']} stays challenger: {row['reason']}")
    return "".join(f"{line}\n" for line in lines)


def tabulate_serving(result: dict[str, Any]) -> str:
    """How fast the versions are served, for people; a line if nobody has measured it."""
    if not result["benchmark"]:
        return "Serving was not measured in this run.\n"
    clients = counted(result["benchmark"][0]["concurrency"], "client")
    table = Table("registered model", "protocol", "requests/s", title=f"Served: {clients}, an image a request")
    table.columns[2].justify = "right"
    reasons = []
    for row in result["benchmark"]:
        figure = "invalid" if row["invalid"] else "not measured"
        if row["invalid"]:
            reasons.append(f"{row['model']} over {row['protocol']} has no figure: {row['invalid']}\n")
        elif row["requests_per_second"]:
            figure = f"{row['requests_per_second']:,.0f}"
        table.add_row(row["model"], row["protocol"], figure)
    return render(table) + "".join(reasons)


def tabulate(result: dict[str, Any]) -> Table:
    """The result for people."""
    spec = result["spec"]
    training = f"{spec['samples']:,} images, {counted(spec['epochs'], 'epoch')}, batch {spec['batch_size']}, threads {spec['threads']}"
    table = Table("registered model", title=f"{spec['model']} on {spec['dataset']}: {training}")
    for heading in ("version", "test accuracy", "training loss", "training time", "images/s", "parity"):
        table.add_column(heading, justify="right")
    table.add_column("release")
    for row in result["frameworks"].values():
        table.add_row(
            row["name"],
            str(row["version"]),
            f"{row['accuracy']:.2%}",
            f"{row['loss']:.4f}",
            f"{row['seconds']:.1f} s",
            f"{row['samples_per_second']:,.0f}",
            result["parity"],
            row["release"],
        )
    return table


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    started: Annotated[float, typer.Option(help="When the run started, in seconds since 1970.")],
) -> None:
    """Write the report of a run, as JSON, text and HTML, track it, and end the run in MLflow; fail if the run is not whole."""
    here = Run(run)
    settings = load_settings()
    result = summarise(here, started, time.time())
    text = f"{render(tabulate(result))}{tell(result['split'])}\n{tabulate_serving(result)}\n{explain(result, settings)}"
    write_json(here.report, result)
    write_atomically(here.report.with_suffix(".txt"), text.encode())
    write_atomically(here.html, page(here, result).encode())
    print(text)
    parent = result["lineage"]["mlflow_run"]
    with reachable(settings):
        mlflow = client(settings)
        for file in (here.report, here.html, here.certificate, here.report.with_suffix(".txt"), here.certificate.with_suffix(".txt")):
            if file.exists():
                mlflow.log_artifact(parent, str(file))
        for line in record(here, mlflow, settings.tensorboard_logs):
            print(line)
        for framework, row in result["frameworks"].items():
            names = ("accuracy", "seconds", "samples_per_second")
            mlflow.log_batch(parent, metrics=[Metric(f"{framework}_{name}", row[name], 0, 0) for name in names])
        mlflow.set_terminated(parent, "FAILED" if result["missing"] else "FINISHED")
    if result["missing"]:
        raise WindtunnelError(f"run {here.name} lacks {', '.join(result['missing'])}; the logs of its tasks say why")


if __name__ == "__main__":
    run_program(main)
