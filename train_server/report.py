"""The result of a run: accuracy, training time, parity and release of its frameworks, side by side.

    python -m train_server.report --run DIR

It runs last, and also after a failure: then it says what is missing, and fails.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from mlflow.entities import Metric
from rich.table import Table

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import Framework
from windtunnel.tables import render
from windtunnel.tracking import client, reachable

NOT_RELEASED = "not released"


def summarise(run: Run) -> dict[str, Any]:
    """What the run came to: `spec`, a row a framework in `frameworks`, `parity` (`passed`, `failed`, `missing`), `missing` steps.

    Of a row, `release` says how far the version came, and `example`, if users get it, how to ask for it.
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
        rows[framework] = {"name": version["name"], "version": version["version"], **metrics, **_release(run, framework)}
    if run.certificate.exists():
        parity = "passed" if json.loads(run.certificate.read_text())["passed"] else "failed"
    if parity != "passed":
        missing.append(f"a parity certificate that passed (it {'is missing' if parity == 'missing' else 'failed'})")
    else:
        missing += [f"a release of {framework}" for framework, row in rows.items() if row["release"] == NOT_RELEASED]
    spec = run.spec().model_dump()
    return {"run": run.name, "spec": spec, "frameworks": rows, "parity": parity, "missing": missing, "lineage": lineage.model_dump()}


def _release(run: Run, framework: Framework) -> dict[str, Any]:
    if run.released(framework).exists():
        released = json.loads(run.released(framework).read_text())
        return {"release": f"champion on {released['server']}", "reason": None, "example": released["example"]}
    if not run.gate(framework).exists():
        return {"release": NOT_RELEASED, "reason": None, "example": None}
    gate = json.loads(run.gate(framework).read_text())
    return {"release": "challenger", "reason": "it was not approved or promoted" if gate["promote"] else gate["reason"], "example": None}


def explain(result: dict[str, Any], command: str) -> str:
    """Why a version is not the champion, or how to ask it, by the command line or by itself; a paragraph a version that was released."""
    lines = []
    for row in result["frameworks"].values():
        if row["example"]:
            lines.append(f"ask {row['name']}:\n  {command} predict {row['name']} digit.png\n  {row['example']}")
        elif row["reason"]:
            lines.append(f"{row['name']} version {row['version']} stays challenger: {row['reason']}")
    return "".join(f"{line}\n" for line in lines)


def tabulate(result: dict[str, Any]) -> Table:
    """The result for people."""
    spec = result["spec"]
    training = f"{spec['samples']:,} images, {spec['epochs']} epochs, batch {spec['batch_size']}, threads {spec['threads']}"
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


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the report of a run and end it in MLflow; fail if the run is not whole."""
    here = Run(run)
    settings = load_settings()
    result = summarise(here)
    text = f"{render(tabulate(result))}\n{explain(result, settings.command)}"
    write_json(here.report, result)
    write_atomically(here.report.with_suffix(".txt"), text.encode())
    print(text)
    parent = result["lineage"]["mlflow_run"]
    with reachable(settings):
        mlflow = client(settings)
        for file in (here.report, here.report.with_suffix(".txt")):
            mlflow.log_artifact(parent, str(file))
        for framework, row in result["frameworks"].items():
            names = ("accuracy", "seconds", "samples_per_second")
            mlflow.log_batch(parent, metrics=[Metric(f"{framework}_{name}", row[name], 0, 0) for name in names])
        mlflow.set_terminated(parent, "FAILED" if result["missing"] else "FINISHED")
    if result["missing"]:
        raise WindtunnelError(f"run {here.name} lacks {', '.join(result['missing'])}; the logs of its tasks say why")


if __name__ == "__main__":
    run_program(main)
