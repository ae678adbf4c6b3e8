"""Write the report of a run: metric, training time, parity and release of its frameworks.

    python -m train_server.reporting.report --run DIR --started SECONDS

It runs last, also after a failure. If a part of the run is missing, it reports the missing parts and fails.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer
from mlflow import entities
from rich.table import Table

from train_server.reporting.benchmark_tracking import record
from train_server.reporting.page import page
from windtunnel.benchmark_result import Benchmark, read_benchmark
from windtunnel.data.datasets import KNOWN
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.metric import Metric
from windtunnel.model import find_model
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.settings import Settings, load_settings
from windtunnel.spans import split, tell
from windtunnel.tables import counted, render
from windtunnel.tracking import client, reachable

NOT_RELEASED, CHALLENGER = "not released", "challenger"


def summarise(run: Run, started: float, ended: float) -> dict[str, Any]:
    """Return the result of a run: `spec`, `frameworks` (a row each), `parity` (`passed`, `failed`, `missing`), `missing` steps.

    `parity` is None if the model has no certificate.
    `release` of a row is the state of the version's release; `example` is a request to it, if it is the champion. `split` divides the time
    from `started` to `ended`, in seconds since 1970, by activity.
    """
    lineage, spec = run.lineage(), run.spec()
    missing = []
    rows: dict[str, dict[str, Any]] = {}
    for framework in lineage.frameworks:
        registered = run.registered(framework)
        if not registered.exists():
            missing.append(f"a registered version of {framework}")
            continue
        version = json.loads(registered.read_text())
        metrics = read_manifest(run.version(framework)).metrics.model_dump()
        rows[framework] = {"name": version["name"], "version": version["version"], **metrics, **release_of(run, framework)}
    parity = _parity(run) if find_model(spec.model).parity else None
    if parity not in (None, "passed"):
        missing.append(f"a parity certificate that passed (it {'is missing' if parity == 'missing' else 'failed'})")
    else:
        missing += [f"a release of {framework}" for framework, row in rows.items() if row["release"] == NOT_RELEASED]
    return {
        "run": run.name,
        "spec": spec.model_dump(),
        "frameworks": rows,
        "parity": parity,
        "benchmark": _headline(read_benchmark(run.benchmark)),
        "split": split(run, started, ended),
        "missing": missing,
        "sentence": tell_releases(rows.values(), find_model(spec.model).metric, missing),
        "lineage": lineage.model_dump(),
    }


def tell_releases(versions: Iterable[Mapping[str, Any]], metric: Metric, missing: Iterable[str]) -> str:
    """Return the result of a run in a sentence, for the run's note in Airflow: what became of its versions, and what is missing."""
    words = {NOT_RELEASED: NOT_RELEASED, CHALLENGER: "stays challenger"}
    parts = [
        f"{each['name']} {each['version']} {words.get(each['release'], 'promoted')}, {metric.text(each[metric.name])}" for each in versions
    ]
    lacks = ", ".join(missing)
    return "; ".join([*parts, *([f"incomplete: it lacks {lacks}"] if lacks else [])])


def _parity(run: Run) -> str:
    """Return the verdict of a run's parity certificate."""
    if not run.certificate.exists():
        return "missing"
    return "passed" if json.loads(run.certificate.read_text())["passed"] else "failed"


def _headline(benchmark: Benchmark | None) -> list[dict[str, Any]] | None:
    """Return the requests per second of the usual row of each model and protocol, or why it is invalid; None without a benchmark."""
    if benchmark is None:
        return None
    names = ("model", "version", "protocol", "concurrency", "invalid")
    figures = [{"requests_per_second": row.rate if row.measured else None} for row in benchmark.usual]
    return [{name: getattr(row, name) for name in names} | figure for row, figure in zip(benchmark.usual, figures, strict=True)]


def release_of(run: Run, framework: str) -> dict[str, Any]:
    """Return the state of a version's `release`, the `reason` if it is not the champion, and an `example` request if it is."""
    if run.released(framework).exists():
        released = json.loads(run.released(framework).read_text())
        return {"release": f"champion on {released['server']}", "reason": None, "example": released["example"]}
    if not run.gate(framework).exists():
        return {"release": NOT_RELEASED, "reason": None, "example": None}
    gate = json.loads(run.gate(framework).read_text())
    return {"release": CHALLENGER, "reason": "it was not approved or promoted" if gate["promote"] else gate["reason"], "example": None}


def explain(result: dict[str, Any], settings: Settings) -> str:
    """Return text for each verified version: how to send it a request, or why it is not the champion."""
    lines, given = [], find_model(result["spec"]["model"]).example
    if any(row["example"] for row in result["frameworks"].values()):
        lines.append(f"in the project's folder{', after `. .venv/bin/activate`' if settings.runtime == 'process' else ''}:")
        if given and (dataset := result["spec"]["dataset"]) != given.dataset:
            origin = KNOWN[given.dataset].title if given.dataset in KNOWN else given.dataset
            lines.append(f"(the models were trained on {dataset}; {given.file} is from {origin}, so its predicted label is meaningless)")
    for row in result["frameworks"].values():
        if row["example"]:
            predict = f"  {settings.command} predict {row['name']} {given.file}\n" if given else ""
            lines.append(f"send a request to {row['name']}:\n{predict}{indent(row['example'], '  ')}")
        elif row["reason"]:
            lines.append(f"{row['name']} version {row['version']} stays challenger: {row['reason']}")
    return "".join(f"{line}\n" for line in lines)


def tabulate_serving(result: dict[str, Any]) -> str:
    """Return the serving speed of the versions as a table, or a line if it was not measured."""
    if not result["benchmark"]:
        return "Serving was not measured in this run.\n"
    clients = counted(result["benchmark"][0]["concurrency"], "client")
    sample = find_model(result["spec"]["model"]).sample
    table = Table("registered model", "protocol", "requests/s", title=f"Serving: {clients}, one {sample} per request")
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
    """Return the result as a table."""
    spec, model = result["spec"], find_model(result["spec"]["model"])
    samples = f"{model.sample}s"
    training = f"{spec['samples']:,} {samples}, {counted(spec['epochs'], 'epoch')}, batch {spec['batch_size']}, threads {spec['threads']}"
    table = Table("registered model", title=f"{spec['model']} on {spec['dataset']}: {training}")
    for heading in ("version", f"test {model.metric.name}", "training loss", "training time", f"{samples}/s"):
        table.add_column(heading, justify="right")
    if model.parity:
        table.add_column("parity", justify="right")
    table.add_column("release")
    for row in result["frameworks"].values():
        table.add_row(
            row["name"],
            str(row["version"]),
            model.metric.text(row[model.metric.name]),
            f"{row['loss']:.4f}",
            f"{row['seconds']:.1f} s",
            f"{row['samples_per_second']:,.0f}",
            *([result["parity"]] if model.parity else []),
            row["release"],
        )
    return table


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    started: Annotated[float, typer.Option(help="When the run started, in seconds since 1970.")],
) -> None:
    """Write the report of a run as JSON, text and HTML, log it in MLflow, and end the run there; fail if the run is incomplete."""
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
            names = (find_model(result["spec"]["model"]).metric.name, "seconds", "samples_per_second")
            mlflow.log_batch(parent, metrics=[entities.Metric(f"{framework}_{name}", row[name], 0, 0) for name in names])
        mlflow.set_terminated(parent, "FAILED" if result["missing"] else "FINISHED")
    if result["missing"]:
        raise WindtunnelError(f"run {here.name} is incomplete: it lacks {', '.join(result['missing'])}. See the logs of its tasks")


if __name__ == "__main__":
    run_program(main)
