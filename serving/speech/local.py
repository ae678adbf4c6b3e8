"""Retrain without Airflow: claim, train, compare, publish, settle, in one process beside the server.

    python -m serving.speech.local < CONFIG.json

The configuration is the server's, as JSON. What the DAG `speech_commands` does, without registry, tracking and approval.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from windtunnel.recordings import vocabulary_at
from windtunnel.run import Run

MARGIN = 0.005  # by how much less accurate than the champion a version still takes its place
TURN_SECONDS = 300.0  # how long to wait for another process that changes what is served
NICE = 10  # users' answers first
MARK = "made-by-dlserver"
"""The file that tells the folder of runs from one that is only called so. It is locked while a run goes on."""

_RUN = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")


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


@contextmanager
def new_run(models: Path) -> Iterator[Run]:
    """A run, in the folder `retraining` below that of the models. Its directory is removed in the end, as are those of runs cut off before.

    Raises:
        WindtunnelError: the folder is somebody else's, or another process retrains in it.
    """
    runs = models / "retraining"
    if runs.is_dir() and any(runs.iterdir()) and not (runs / MARK).exists():
        raise WindtunnelError(f"{runs} is not a folder of this server: it holds files, and no {MARK}. Move it, or change NewModelsPath")
    with held(runs / MARK, f"the folder {runs}", TURN_SECONDS):
        for directory in runs.iterdir():
            if _RUN.fullmatch(directory.name):
                shutil.rmtree(directory)
        run = Run(runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S"))
        try:
            yield run
        finally:
            shutil.rmtree(run.directory, ignore_errors=True)


def retrain(config: Config) -> None:
    """Train with the suggestions that wait, and let users get what comes of it if it is no worse.

    Raises:
        WindtunnelError: training failed; the suggestions wait again.
    """
    with new_run(config.models) as run:
        _retrain(config, run)


def _retrain(config: Config, run: Run) -> None:
    journal = open_journal(config)
    before = champion(config) or (None if config.model is None else Recognizer(config.model, 0))
    reasons = take(journal, before, vocabulary_at(config.base_samples) if before is None else before.words, run)
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
