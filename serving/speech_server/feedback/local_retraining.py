"""Retrain without Airflow: claim, train, compare, publish and settle, in one process on the server's machine.

    python -m serving.speech_server.feedback.local_retraining < CONFIG.json

The configuration is the server's, as JSON. It does what the DAG `speech_commands` does, without registry, tracking and approval.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from serving.speech_server.feedback.claims import champion, reject_all, skip_if_nothing_is_new, take
from serving.speech_server.feedback.journal import open_journal
from serving.speech_server.ini_file import Config
from serving.speech_server.model import Recognizer
from serving.speech_server.models import MODELS, Wanted, read_wanted
from windtunnel.data.recordings import vocabulary_at
from windtunnel.errors import WindtunnelError
from windtunnel.files import replace_copy, write_json
from windtunnel.locks import held
from windtunnel.manifest import verify_version
from windtunnel.measure import execute
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.platform.program import run_program
from windtunnel.run import Run

MARGIN = 0.005  # how much less accurate than the champion a version may be and still replace it
TURN_SECONDS = 300.0  # timeout for waiting until another process has changed what is served
NICE = 10  # users' requests have priority
MARK = "made-by-dlserver"
"""The file that marks a folder as the folder of runs. It is locked during a run."""

_RUN = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")


def compare(challenger: Path, champion: Path | None) -> str | None:
    """Return why a version may not replace the champion; None if it may."""
    if champion is None:
        return None
    new, old = verify_version(challenger), verify_version(champion)
    if new.dataset.fingerprint != old.dataset.fingerprint:
        return None  # the champion was tested on other recordings, for example on synthetic ones
    below = old.value - new.value
    if below > MARGIN:
        points = f"{100 * below:.2f} points below the champion's, expected at most {100 * MARGIN:.2f}"
        return f"accuracy {new.value:.2%}, {points}"
    return None


def publish(config: Config, version: Path) -> int:
    """Make a version the one that users get; the previous one stays loaded. Returns its number."""
    with held(config.models / ".lock", f"the folder {config.models}", TURN_SECONDS):
        wanted = read_wanted(config.models)
        number = max((int(place.name) for place in config.models.glob("*") if place.name.isdecimal()), default=0) + 1
        Recognizer(version, number)  # the server would reject a bad version, so fail before publishing it
        replace_copy(version, config.models / str(number))
        kept = () if wanted.champion is None else (wanted.champion,)
        write_json(config.models / MODELS, Wanted(versions=(*kept, number), champion=number).model_dump())
    return number


@contextmanager
def new_run(models: Path) -> Iterator[Run]:
    """Create a run in the subfolder `retraining` of the models' folder. Its directory is removed at the end, as are interrupted runs'.

    Raises:
        WindtunnelError: the folder belongs to something else, or another process retrains in it.
    """
    runs = models / "retraining"
    if runs.is_dir() and any(runs.iterdir()) and not (runs / MARK).exists():
        raise WindtunnelError(f"{runs} is not a folder of this server: it has files but no {MARK}. Move it, or change NewModelsPath")
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
    """Train with the suggestions that wait, and make the version the one that users get if it is not worse.

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
        print(execute([sys.executable, "-m", "train_server.speech_commands.standalone", "--run", run.directory, *data]), end="")
        version = run.version("pytorch")
        if why := compare(version, None if before is None else before.directory):
            reject_all(journal, run, reasons, why)
            return
        number = publish(config, version)
        journal.settle(run.name, reasons)
        print(f"users get version {number}")
    finally:
        journal.release(run.name)  # does not change settled suggestions
        journal.purge()


def main() -> None:
    """Retrain once."""
    die_with_parent()
    os.nice(NICE)
    try:
        config = Config.model_validate_json(sys.stdin.read())
    except ValueError as error:
        raise WindtunnelError(f"standard input is not a speech server's configuration ({error}). Give it as JSON") from error
    retrain(config)


if __name__ == "__main__":
    run_program(main)
