"""The command that the speech server adds to `windtunnel`. What it needs is imported when it runs."""

from typing import Annotated, Literal

import typer

from windtunnel.errors import WindtunnelError
from windtunnel.output import Json, print_json, print_table

State = Literal["received", "claimed", "trained", "rejected", "undone"]


def suggestions(
    ids: Annotated[list[int] | None, typer.Argument(help="Which; by default all.", metavar="[ID]…")] = None,
    run: Annotated[str | None, typer.Option(help="Only what this run claimed, such as speech_commands/manual__….")] = None,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    peer: Annotated[str | None, typer.Option(help="Only those of this sender: an address, or the name of a token.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take them back, and have the model trained anew without them.")] = False,
    as_json: Json = False,
) -> None:
    """List what users have suggested to the speech server; with --undo, take it back and retrain without it."""
    from serving.speech.config import Config
    from serving.speech.journal import open_journal
    from windtunnel.settings import load_settings

    settings = load_settings()
    config = Config.of(settings)
    journal = open_journal(config)
    found = [each for each in journal.list(peer=peer, state=state, run=run) if not ids or each.id in ids]
    begun = None
    if undo:
        if not (ids or run or peer):
            raise WindtunnelError("--undo takes back what is named: give IDs, --run or --peer; without it the list is printed")
        trained = any(each.state == "trained" for each in found)
        found = journal.undo([each.id for each in found])
        if trained:
            from windtunnel.airflow import Airflow

            # from new weights: those of the champion have learned from what is taken back
            begun = Airflow(settings).trigger(config.dag, {"tune": False, "baseline": False})
    rows = [
        {
            "id": each.id,
            "word": each.word,
            "state": each.state,
            "peer": each.peer,
            "received": each.received.isoformat(timespec="seconds"),
            "run": each.run,
            "reason": each.reason,
        }
        for each in found
    ]
    if as_json:
        print_json({"suggestions": rows, "retraining": begun})
        return
    if not rows:
        print("No such suggestion." if ids or run or state or peer else "Nobody has suggested anything yet.")
        return
    columns = ["id", "word", "state", "peer", "received", "run", "reason"]
    print_table(columns, [["" if row[column] is None else str(row[column]) for column in columns] for row in rows])
    if begun:
        print(f"The model is trained anew without them: run {begun} of {config.dag} at {settings.published.airflow_url}")
