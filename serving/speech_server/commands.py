"""The command that the speech server adds to `windtunnel`. It imports what it needs when it runs."""

from typing import Annotated, Literal

import typer

from windtunnel.cli.output import Json, print_json, print_table
from windtunnel.errors import WindtunnelError

State = Literal["received", "claimed", "trained", "rejected", "undone"]


def suggestions(
    ids: Annotated[list[int] | None, typer.Argument(help="The suggestions. Default: all.", metavar="[ID]…")] = None,
    run: Annotated[str | None, typer.Option(help="Only suggestions that this run claimed, such as speech_commands/manual__….")] = None,
    state: Annotated[State | None, typer.Option(help="Only suggestions in this state.")] = None,
    peer: Annotated[str | None, typer.Option(help="Only suggestions by this sender: an address, or the name of a token.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo these suggestions, and retrain the model without them.")] = False,
    as_json: Json = False,
) -> None:
    """List users' suggestions to the speech server; with --undo, undo them and retrain the model without them."""
    from serving.speech_server.feedback.journal import open_journal
    from serving.speech_server.ini_file import Config
    from windtunnel.run import Run
    from windtunnel.settings import load_settings, run_directory

    settings = load_settings()
    config = Config.of(settings)
    journal = open_journal(config)
    if run is not None:  # as Airflow writes it, or as it is stored
        dag, _, run_id = run.rpartition("/")
        run = Run(run_directory(settings.home, dag or config.dag, run_id)).name
    found = [each for each in journal.list(peer=peer, state=state, run=run) if not ids or each.id in ids]
    if missing := sorted(set(ids or ()) - {each.id for each in found}):
        others = " that the other options select" if run or state or peer else ""
        raise WindtunnelError(f"there is no suggestion {', '.join(map(str, missing))}{others}. `windtunnel suggestions` lists all")
    begun = None
    if undo:
        if not (ids or run or peer):
            raise WindtunnelError("--undo needs a selection: give IDs, --run or --peer. Without --undo, suggestions are only listed")
        trained = any(each.state == "trained" for each in found)
        found = journal.undo([each.id for each in found])
        if trained:
            from windtunnel.platform.airflow import Airflow

            # new weights: the champion's have learned from the undone suggestions
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
        print("There is no such suggestion." if ids or run or state or peer else "There are no suggestions yet.")
        return
    columns = ["id", "word", "state", "peer", "received", "run", "reason"]
    print_table(columns, [["" if row[column] is None else str(row[column]) for column in columns] for row in rows])
    if begun:
        print(f"Retraining without them: run {begun} of {config.dag} at {settings.published.airflow_url}")
