"""Retrain without Airflow: claim, train, compare, publish, settle, in one process beside the server.

    python -m serving.speech.local < CONFIG.json

The configuration is the server's, as JSON. What the DAG `speech_commands` does, without registry, tracking and approval.
"""

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from serving.copies import replace_copy
from serving.speech.claim import champion, reject_all, skip_if_nothing_is_new, take
from serving.speech.config import Config
from serving.speech.journal import open_journal
from serving.speech.model import Recognizer
from serving.speech.models import MODELS, Wanted, read_wanted
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.locks import held
from windtunnel.manifest import verify_version
from windtunnel.measure import execute
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.run import Run

MARGIN = 0.005  # by how much less accurate than the champion a version still takes its place
TURN_SECONDS = 300.0  # how long to wait for another process that changes what is served
NICE = 10  # users' answers first


def compare(challenger: Path, champion: Path | None) -> str | None:
    """Why a version may not take the champion's place; None where it may."""
    if champion is None:
        return None
    new, old = verify_version(challenger), verify_version(champion)
    if new.dataset.fingerprint != old.dataset.fingerprint:
        return None  # the champion was tested on other recordings, as on synthetic ones before there were any
    below = old.metrics.accuracy - new.metrics.accuracy
    if below > MARGIN:
        return f"accuracy {new.metrics.accuracy:.2%}, {100 * below:.2f} points below the champion's, may be {100 * MARGIN:.2f}"
    return None


def publish(config: Config, version: Path) -> int:
    """Let users get a version; the one before stays loaded. Returns its number."""
    with held(config.models / ".lock", f"the folder {config.models}", TURN_SECONDS):
        wanted = read_wanted(config.models)
        number = max((int(place.name) for place in config.models.glob("*") if place.name.isdecimal()), default=0) + 1
        Recognizer(version, number)  # which the server will refuse if it is bad: then it is not published
        replace_copy(version, config.models / str(number))
        kept = () if wanted.champion is None else (wanted.champion,)
        write_json(config.models / MODELS, Wanted(versions=(*kept, number), champion=number).model_dump())
    return number


def retrain(config: Config) -> None:
    """Train with the suggestions that wait, and let users get what comes of it if it is no worse.

    Raises:
        WindtunnelError: training failed; the suggestions wait again.
    """
    config.models.mkdir(parents=True, exist_ok=True)
    runs = config.models.with_name("retraining")
    shutil.rmtree(runs, ignore_errors=True)  # of a run that was cut off
    run = Run(runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S"))
    journal = open_journal(config)
    before = champion(config) or (None if config.model is None else Recognizer(config.model, 0))
    reasons = take(journal, before, run)
    skip_if_nothing_is_new(journal, run, reasons)
    try:
        if before is not None:
            shutil.copytree(before.directory, run.champion)
        data = () if config.base_samples is None else ("--data", config.base_samples)
        print(execute([sys.executable, "-m", "train_server.speech_commands.alone", "--run", run.directory, *data]), end="")
        version = run.version("pytorch")
        if why := compare(version, None if before is None else before.directory):
            reject_all(journal, run, reasons, why)
            return
        number = publish(config, version)
        journal.settle(run.name, reasons)
        print(f"users get version {number}")
    finally:
        journal.release(run.name)  # what is settled stays so
        journal.purge()
        shutil.rmtree(runs)


def main() -> None:
    """Retrain once."""
    die_with_parent()
    os.nice(NICE)
    try:
        config = Config.model_validate_json(sys.stdin.read())
    except ValueError as error:
        raise WindtunnelError(f"standard input is no configuration of a speech server ({error}): give it as JSON") from error
    retrain(config)


if __name__ == "__main__":
    run_program(main)
