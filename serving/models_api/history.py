"""The history of promotions: the audit log of releases, the newest first."""

from typing import Any

from serving.models_api.run_url import run_url
from serving.release import audit
from windtunnel.errors import WindtunnelError
from windtunnel.settings import Settings

Event = dict[str, Any]


def events(settings: Settings) -> list[Event]:
    """Return all events, oldest first. Their `index` is the number of their line, from 0.

    Raises:
        WindtunnelError: the log cannot be read.
    """
    try:
        lines = audit.read(settings.serving)
        return [_event(index, line) for index, line in enumerate(lines)]
    except (OSError, KeyError) as error:
        log = settings.serving / audit.LOG
        raise WindtunnelError(f"the audit log {log} cannot be read ({error!r}). Compare it with a backup, or move the file") from error


def page(settings: Settings, name: str | None, most: int, before: int | None) -> tuple[list[Event], bool]:
    """Return the newest events, the newest first, and whether there are older ones.

    Args:
        settings: the platform's settings.
        name: only those of this registered model.
        most: how many.
        before: only those with a smaller index.
    """
    wanted = (each for each in reversed(events(settings)) if name in (None, each["name"]) and (before is None or each["index"] < before))
    found = [event for event, _ in zip(wanted, range(most + 1), strict=False)]
    return found[:most], len(found) > most


def promotions(all_events: list[Event]) -> dict[tuple[str, int], Event]:
    """Return the last event that made each version the champion, by its name and number."""
    return {(each["name"], each["to"]): each for each in all_events if each["to"] is not None}


def readable_promotions(settings: Settings, problems: list[str]) -> dict[tuple[str, int], Event]:
    """Return `promotions` of all events; of a log that cannot be read none, and add to `problems` why."""
    try:
        return promotions(events(settings))
    except WindtunnelError as error:
        problems.append(str(error))
        return {}


def _event(index: int, line: dict[str, Any]) -> Event:
    about = {"index": index, "time": line["time"], "action": line["action"], "name": line["model"]}
    versions = {"from": line["from_version"], "to": line["to_version"]}
    dag_id = (line.get("run") or "").partition("/")[0]  # lines of older releases have the name of a run, but not its id
    run = {"run": line.get("run"), "run_url": run_url(dag_id, line.get("run_id"))}
    return about | versions | {key: line.get(key) for key in ("who", "why")} | run
