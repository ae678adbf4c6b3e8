"""The suggestions of a run: claim and check them, and settle them at the end.

    python -m serving.speech_server.feedback.claims claim --run DIR
    python -m serving.speech_server.feedback.claims settle --run DIR

Claimed suggestions belong to the run until they are settled. If the run fails, they wait again. If users get the run's version, they are
trained. If the version is worse than the champion, they are rejected, so that whatever made it worse does not come back. If the gate
rejected the version for another reason, that says nothing about the suggestions: they wait again and the run fails, because somebody has to
decide before the next try.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from safetensors.numpy import save

from serving.speech_server.feedback.checks import check, doubts, read, record
from serving.speech_server.feedback.journal import Journal, Suggestion, open_journal
from serving.speech_server.ini_file import Config
from serving.speech_server.model import Recognizer
from serving.speech_server.models import read_wanted
from windtunnel.data.recordings import vocabulary_of
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.platform.program import run_app
from windtunnel.run import SKIPPED, Run
from windtunnel.settings import load_settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Directory = Annotated[Path, typer.Option(help="The run's directory.")]


def champion(config: Config) -> Recognizer | None:
    """Load the version that users get into this process; None if there is none.

    Raises:
        WindtunnelError: it cannot be loaded.
    """
    number = read_wanted(config.models).champion
    return None if number is None else Recognizer(config.models / str(number), number)


def take(journal: Journal, recognizer: Recognizer | None, words: tuple[str, ...], run: Run) -> dict[int, str]:
    """Claim all suggestions that wait, and write those that pass the checks, with those of earlier runs, into the run's directory.

    Args:
        journal: the server's journal.
        recognizer: the champion, if there is one.
        words: the champion's vocabulary, otherwise that of the recordings that the run trains with.
        run: the run.

    Returns:
        The reasons of rejected suggestions, by id.
    """
    for cut_off in {each.run for each in journal.list(state="claimed")} - {run.name}:  # runs do not overlap, so these have ended
        journal.release(str(cut_off))
    claimed, trained = journal.claim(run.name), journal.list(state="trained")
    trained = [each for each in trained if each.word in words and each.file.exists()]
    clips, lengths = read(claimed)
    reasons = check(claimed, clips, lengths, words)
    if recognizer is not None:
        reasons = doubts(claimed, clips, lengths, record(journal, claimed), recognizer) | reasons
    before, _ = read(trained)
    new = [row for row, each in enumerate(claimed) if each.id not in reasons]
    accepted = [*trained, *(claimed[row] for row in new)]
    taken = {"clips": np.concatenate([before, clips[new]]), "labels": np.array([words.index(each.word) for each in accepted], np.uint8)}
    write_atomically(run.clips, save(taken))
    rejected = [{**_about(each), "reason": reasons[each.id]} for each in claimed if each.id in reasons]
    write_json(run.suggestions, {"accepted": [_about(each) for each in accepted], "new": len(new), "rejected": rejected})
    print(f"{len(claimed)} suggestions claimed: {len(new)} to train with, {len(rejected)} rejected; {len(trained)} from earlier runs")
    for each in rejected:
        print(f"suggestion {each['id']}, {each['word']}: {each['reason']}")
    return reasons


def skip_if_nothing_is_new(journal: Journal, run: Run, reasons: dict[int, str]) -> None:
    """End the program with the status for skipped if no new suggestion passed the checks."""
    if not json.loads(run.suggestions.read_text())["new"]:
        journal.settle(run.name, reasons)
        print("no suggestion passed the checks: the model stays unchanged")
        sys.exit(SKIPPED)


def reject_all(journal: Journal, run: Run, reasons: dict[int, str], why: str) -> None:
    """Reject all suggestions that a run has claimed, because its version was rejected."""
    claimed = journal.list(state="claimed", run=run.name)
    journal.settle(run.name, {each.id: f"the version trained with it was rejected: {why}" for each in claimed} | reasons)
    print(f"all {len(claimed)} suggestions are rejected: {why}")


@app.command()
def claim(
    run: Directory,
    needed: Annotated[bool, typer.Option(help="Skip the run if there is nothing new to train with.")] = False,
    dataset: Annotated[str, typer.Option(help="The run's data set; its words are used if there is no champion yet.")] = "auto",
) -> None:
    """Claim all suggestions that wait, and check them."""
    here, config = Run(run), Config.of(load_settings())
    journal, before = open_journal(config), champion(config)
    reasons = take(journal, before, vocabulary_of(dataset) if before is None else before.words, here)
    if needed:
        skip_if_nothing_is_new(journal, here, reasons)


@app.command()
def settle(run: Directory) -> None:
    """Record the result of the run's suggestions."""
    here = Run(run)
    journal = open_journal(Config.of(load_settings()))
    taken = _read(here.suggestions, {"new": 0, "rejected": []})
    verdict = _read(here.gate("pytorch"), {"promote": True, "worse": False})
    reasons = {each["id"]: each["reason"] for each in taken["rejected"]}
    if here.released("pytorch").exists():
        count = len(journal.list(state="claimed", run=here.name)) - len(reasons)
        journal.settle(here.name, reasons)
        print(f"{count} suggestions were trained with, {len(reasons)} were rejected")
    elif verdict["worse"]:
        reject_all(journal, here, reasons, verdict["reason"])
    else:
        print(f"{journal.release(here.name)} suggestions wait again: no version was released")
    journal.purge()
    if taken["new"] and not verdict["promote"] and not verdict["worse"]:
        raise WindtunnelError(f"the version trained with {taken['new']} new suggestions was rejected: {verdict['reason']}")


def _read(file: Path, without: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON that a task of the run has written; `without` if the run did not get that far."""
    return json.loads(file.read_text()) if file.exists() else without


def _about(each: Suggestion) -> dict[str, Any]:
    received = each.received.isoformat(timespec="seconds")
    return {"id": each.id, "digest": each.digest, "word": each.word, "peer": each.peer, "received": received}


if __name__ == "__main__":
    run_app(app)
