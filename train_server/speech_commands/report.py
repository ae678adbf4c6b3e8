"""Write the report of a run of `speech_commands`: the versions before and after, the suggestions used, the release.

    python -m train_server.speech_commands.report --run DIR

It runs last, also after a failure. If a part of the run is missing, it reports the missing parts and fails.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from mlflow.entities import Metric

from train_server.reporting.page import render
from train_server.reporting.report import release_of, tell_releases
from train_server.speech_commands.model import PYTORCH, SPEECH_COMMANDS
from train_server.speech_commands.plots import plots
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.tracking import client, reachable

FEW = 10  # suggestions that the text names


def summarise(run: Run) -> dict[str, Any]:
    """Return the result of a run: `suggestions`, `evaluation`, `version` with its release, `missing` steps, `lineage`; None if absent."""
    skipped = run.suggestions.exists() and not run.lineage_file.exists()  # there was nothing new to train with
    registered = run.registered(PYTORCH.name)
    version = json.loads(registered.read_text()) if registered.exists() else None
    steps = {
        "the suggestions": run.suggestions,
        **({} if skipped else {"an evaluation": run.evaluation, "a registered version": registered}),
    }
    missing = [name for name, file in steps.items() if not file.exists()]
    release = release_of(run, PYTORCH.name)
    if version and not run.gate(PYTORCH.name).exists():
        missing.append("a release")
    released = version and {"name": version["name"], "version": version["version"], "accuracy": version["accuracy"], **release}
    told = tell_releases([released] if released else [], SPEECH_COMMANDS.metric, missing)
    return {
        "run": run.name,
        "sentence": "no new suggestions, so nothing was trained" if skipped else told,
        "skipped": skipped,
        "suggestions": _read(run.suggestions),
        "evaluation": _read(run.evaluation),
        "version": released,
        "missing": missing,
        "lineage": _read(run.lineage_file),
    }


def explain(result: dict[str, Any], evaluation: str) -> str:
    """Return the result as text; `evaluation` is the table of the versions."""
    lines = []
    if taken := result["suggestions"]:
        old = len(taken["accepted"]) - taken["new"]
        lines.append(f"suggestions: {taken['new']} new, {old} from earlier runs, {len(taken['rejected'])} rejected")
        words = Counter(each["word"] for each in taken["accepted"][old:])
        if words:
            lines.append("  new: " + ", ".join(f"{word} {count}" for word, count in sorted(words.items())))
        lines += [f"  rejected: {each['id']}, {each['word']}: {each['reason']}" for each in taken["rejected"][:FEW]]
        if len(taken["rejected"]) > FEW:
            lines.append(f"  … and {len(taken['rejected']) - FEW} more")
    if result["skipped"]:
        lines.append("There were no new suggestions, so no version was trained. The champion is unchanged.")
    if version := result["version"]:
        lines.append(f"{version['name']} version {version['version']}: {version['release']}")
        if version["reason"]:
            lines.append(f"  {version['reason']}")
        if version["example"]:
            lines.append(f"send a request: {version['example']}")
    return evaluation + "".join(f"{line}\n" for line in lines)


def page(run: Run, result: dict[str, Any]) -> str:
    """Return the result as one self-contained HTML page without scripts."""
    version = run.version(PYTORCH.name)
    trained = version.exists()
    drawn = plots(result["evaluation"], version) if result["evaluation"] and trained else []
    manifest = read_manifest(version) if trained else None
    return render("speech_commands/report.html.j2", result=result, manifest=manifest, plots=drawn)


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the report of a run as JSON, text and HTML, and end the run in MLflow; fail if the run is incomplete."""
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
        raise WindtunnelError(f"run {here.name} is incomplete: it lacks {', '.join(result['missing'])}. See the logs of its tasks")


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


if __name__ == "__main__":
    run_program(main)
