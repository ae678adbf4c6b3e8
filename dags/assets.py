"""The Assets of the champions. A DAG that is scheduled on one runs after each promotion of that model."""

import json
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias

from windtunnel.model import metric_of
from windtunnel.run import Run
from windtunnel.settings import load_settings, run_directory

CHAMPIONS = AssetAlias("champions")


def champion(name: str) -> Asset:
    """Return the Asset of the champion of a registered model, such as `lenet5-libtorch`."""
    return Asset(name, f"windtunnel://models/{name}")


def promoted(context: Any, result: None) -> None:
    """Emit an event of the model's Asset: the `post_execute` of a task that promotes the framework that its command ends with."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    run = Run(run_directory(load_settings().home, dag_id, run_id))
    framework = context["task"].command[-1]
    known = json.loads(run.registered(framework).read_text()) | json.loads(run.released(framework).read_text())
    _emit(context, known)


def released_by_hand(context: Any, result: None) -> None:
    """Emit an event of the Asset of what a run of the DAG `release` promoted. `reconcile` promotes nothing."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    for file in run_directory(load_settings().home, dag_id, run_id).glob("*.released.json"):
        _emit(context, json.loads(file.read_text()))


def _emit(context: Any, known: Mapping[str, Any]) -> None:
    """Emit an event about a version that was promoted: its number, its metric, its server, and the run."""
    facts = {key: known[key] for key in ("version", metric_of(known["name"]).name, "server")}
    run = f"{context['dag'].dag_id}/{context['run_id']}"
    context["outlet_events"][CHAMPIONS].add(champion(known["name"]), extra=facts | {"run": run})
