"""Desired state beside actual state: what the registry's aliases say, and what every server has loaded."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from serving.backends.base import Served
from serving.backends.catalog import find_server
from serving.models_api import history
from serving.models_api.pictures import is_audio
from serving.models_api.records import Json, record
from serving.models_api.servers import Look
from serving.models_api.sources import Sources
from windtunnel.aliases import ALIASES, Aliases
from windtunnel.errors import WindtunnelError
from windtunnel.model import Framework, Model, find_registered, models
from windtunnel.registered import RegisteredVersion
from windtunnel.settings import Settings

Desired = dict[str, dict[str, int]]
"""The versions by alias of every registered model."""

AT_ONCE = 8
"""How many requests MLflow gets at a time."""


def by_server(names: Any) -> dict[str, list[str]]:
    """Sort registered models by their server."""
    found: dict[str, list[str]] = {}
    for name in names:
        if server := find_server(name):
            found.setdefault(server, []).append(name)
    return found


def overview(sources: Sources) -> Json:
    """Return all models with their versions that have an alias, the state of every server, and what does not answer."""
    settings, problems = sources.settings, list[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        declared = [model.registered_name(framework) for model in models().values() for framework in model.framework_names]
        looking = pool.submit(sources.servers.look, by_server(declared))
        desired, known, newest = _registry(sources.registry, pool, problems)
        look = looking.result()
    promotions = history.readable_promotions(settings, problems)
    versions = {key: record(settings, version, promotions) for key, version in known.items()}
    registered = partial(_registered, desired=desired, versions=versions, newest=newest, look=look)
    return {
        "models": [*(_model(model, registered) for model in models().values()), *_undeclared(desired, registered)],
        "servers": [_server(settings, name, look.problems.get(name)) for name in settings.servers],
        "problems": [*problems, *look.problems.values()],
    }


def versions_page(sources: Sources, name: str, most: int, before: int | None) -> Json:
    """Return the newest versions of a registered model, the newest first, and whether there are older ones.

    Raises:
        WindtunnelError: MLflow does not answer, or there is no such model.
    """
    settings = sources.settings
    found = sources.registry.versions(name, most + 1, before)
    promotions = history.readable_promotions(settings, [])
    return {"versions": [record(settings, known, promotions) for known in found[:most]], "more": len(found) > most}


def _registry(
    registry: Aliases, pool: ThreadPoolExecutor, problems: list[str]
) -> tuple[Desired | None, dict[tuple[str, int], RegisteredVersion], dict[str, int]]:
    """Return the aliases, None if MLflow does not answer; the versions that have one; and the newest version of each model, 0 without."""
    try:
        desired = registry.all()
        wanted = {(name, number) for name, aliases in desired.items() for number in aliases.values()}
        found = {name: pool.submit(registry.versions, name, 1) for name in desired}
        known = {key: pool.submit(registry.version, *key) for key in sorted(wanted)}
        newest = {name: versions[0].version if (versions := future.result()) else 0 for name, future in found.items()}
        return desired, {key: future.result() for key, future in known.items()}, newest
    except WindtunnelError as error:
        problems.append(str(error))
        return None, {}, {}


def _model(model: Model, registered: Any) -> Json:
    names = [model.registered_name(framework) for framework in model.framework_names]
    return {
        "model": model.name,
        "title": model.title,
        "sample": model.sample,
        "metric": model.metric.name,
        "input": {"codec": model.input.codec, "shape": list(model.input.shape), "audio": is_audio(model)},
        "registered": [each for name in names if (each := registered(name)) is not None],
    }


def _undeclared(desired: Desired | None, registered: Any) -> list[Json]:
    """Return the registered models whose package is not installed, each as a model of its own."""
    names = [name for name in sorted(desired or {}) if find_registered(name) is None]
    unknown: Json = {"sample": "sample", "metric": None, "input": {"codec": None, "shape": [], "audio": False}}
    return [{"model": name, "title": name, **unknown, "registered": [registered(name)]} for name in names]


def _registered(
    name: str, *, desired: Desired | None, versions: Mapping[tuple[str, int], Json], newest: Mapping[str, int], look: Look
) -> Json | None:
    """Return a registered model; None if neither the registry nor its server has a version, as far as they answer."""
    declared = find_registered(name)
    actual = look.of(name)
    if not (desired and name in desired) and not (actual and actual.versions) and (desired is not None or actual is not None):
        return None
    aliases = None if desired is None else desired.get(name, {})
    problem = _problem(name, declared, aliases, actual)
    return {
        "name": name,
        "framework": declared[1].name if declared else None,
        "colour": declared[1].colour if declared else None,
        "server": declared[1].backend if declared else None,
        "newest": newest.get(name),
        **{alias: versions.get((name, aliases[alias])) if aliases and alias in aliases else None for alias in ALIASES},
        "actual": {"champion": actual.champion, "loaded": sorted(actual.versions)} if actual else None,
        "agrees": None if aliases is None or actual is None else problem is None,
        "problem": problem,
    }


def _problem(name: str, declared: tuple[Model, Framework] | None, aliases: dict[str, int] | None, actual: Served | None) -> str | None:
    """Return what is wrong with a registered model, in a sentence.

    A loaded version without an alias is not wrong: a release that has not ended yet may have loaded it.
    """
    if declared is None:
        return f"no installed package declares {name}. Install its package, or delete the model in MLflow"
    server = declared[1].backend
    if actual is None:
        return f"{server} does not answer"
    if aliases is None:
        return None
    if actual.champion != aliases.get("champion"):
        served, wanted = (f"version {number}" if number else "no version" for number in (actual.champion, aliases.get("champion")))
        return f"users get {served} from {server}, but the registry's champion is {wanted}. Reconcile"
    if missing := sorted(set(aliases.values()) - actual.versions):
        numbers = ", ".join(map(str, missing))
        return f"{server} has not loaded version {numbers}, which the registry's aliases name. Reconcile"
    return None


def _server(settings: Settings, name: str, problem: str | None) -> Json:
    return {"name": name, "address": settings.published.servers[name].address, "healthy": problem is None, "problem": problem}
