"""The result of a run of `speech_commands`: before and after, the suggestions it used, the release.

    python -m train_server.speech_commands.report --run DIR

It runs last, and also after a failure: then it says what is missing, and fails.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from mlflow.entities import Metric

from train_server.page import render
from train_server.report import release_of
from train_server.speech_commands.plots import plots
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import Framework
from windtunnel.tracking import client, reachable

FRAMEWORK: Framework = "pytorch"
FEW = 10  # suggestions that the text names


def summarise(run: Run) -> dict[str, Any]:
    """What the run came to: `suggestions`, `evaluation`, `version` and its release, `missing` steps, `lineage`; None for what is not."""
    skipped = run.suggestions.exists() and not run.lineage_file.exists()  # there was nothing new to train with
    registered = run.registered(FRAMEWORK)
    version = json.loads(registered.read_text()) if registered.exists() else None
    steps = {
        "the suggestions": run.suggestions,
        **({} if skipped else {"an evaluation": run.evaluation, "a registered version": registered}),
    }
    missing = [name for name, file in steps.items() if not file.exists()]
    release = release_of(run, FRAMEWORK)
    if version and not run.gate(FRAMEWORK).exists():
        missing.append("a release")
    return {
        "run": run.name,
        "skipped": skipped,
        "suggestions": _read(run.suggestions),
        "evaluation": _read(run.evaluation),
        "version": version and {"name": version["name"], "version": version["version"], "accuracy": version["accuracy"], **release},
        "missing": missing,
        "lineage": _read(run.lineage_file),
    }


def explain(result: dict[str, Any], evaluation: str) -> str:
    """The result for people; `evaluation` is the table of the versions."""
    lines = []
    if taken := result["suggestions"]:
        old = len(taken["accepted"]) - taken["new"]
        lines.append(f"{taken['new']} new suggestions trained with, {old} of earlier runs, {len(taken['rejected'])} rejected")
        words = Counter(each["word"] for each in taken["accepted"][old:])
        if words:
            lines.append("  new: " + ", ".join(f"{word} {count}" for word, count in sorted(words.items())))
        lines += [f"  rejected: {each['id']}, {each['word']}: {each['reason']}" for each in taken["rejected"][:FEW]]
        if len(taken["rejected"]) > FEW:
            lines.append(f"  … and {len(taken['rejected']) - FEW} more")
    if result["skipped"]:
        lines.append("There was nothing new to train with: the model stays as it is.")
    if version := result["version"]:
        lines.append(f"{version['name']} version {version['version']}: {version['release']}")
        if version["reason"]:
            lines.append(f"  {version['reason']}")
        if version["example"]:
            lines.append(f"ask it: {version['example']}")
    return evaluation + "".join(f"{line}\n" for line in lines)


def page(run: Run, result: dict[str, Any]) -> str:
    """The result for a browser: a page that needs no other file, nor a script."""
    version = run.version(FRAMEWORK)
    trained = version.exists()
    drawn = plots(result["evaluation"], version) if result["evaluation"] and trained else []
    manifest = read_manifest(version) if trained else None
    return render("speech_commands/report.html.j2", result=result, manifest=manifest, plots=drawn)


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the report of a run, as JSON and text, and end it in MLflow; fail if the run is not whole."""
    here = Run(run)
    result = summarise(here)
    table = here.evaluation.with_suffix(".txt")
    text = explain(result, table.read_text("utf-8") if table.exists() else "")
    write_json(here.report, result)
    write_atomically(here.report.with_suffix(".txt"), text.encode())
    write_atomically(here.html, page(here, result).encode())
    print(text)
    if result["lineage"]:
        settings, parent = load_settings(), result["lineage"]["mlflow_run"]
        with reachable(settings):
            mlflow = client(settings)
            for file in (here.report, here.report.with_suffix(".txt"), here.html, here.suggestions, here.evaluation):
                if file.exists():
                    mlflow.log_artifact(parent, str(file))
            if result["version"]:
                mlflow.log_batch(parent, metrics=[Metric("accuracy", result["version"]["accuracy"], 0, 0)])
            mlflow.set_terminated(parent, "FAILED" if result["missing"] else "FINISHED")
    if result["missing"]:
        raise WindtunnelError(f"run {here.name} lacks {', '.join(result['missing'])}; the logs of its tasks say why")


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


if __name__ == "__main__":
    run_program(main)
