"""The Assets that stand for the models users get. A DAG with one as its schedule runs after each promotion of that model."""

import json
from typing import Any

from airflow.sdk import Asset, AssetAlias

from windtunnel.run import Run
from windtunnel.settings import load_settings, run_directory

CHAMPIONS = AssetAlias("champions")


def champion(name: str) -> Asset:
    """The champion of a registered model, such as `lenet5-libtorch`."""
    return Asset(name, f"windtunnel://models/{name}")


def promoted(context: Any, result: None) -> None:
    """A `post_execute` for a task that promotes the framework last in its command: the model's Asset has a new version."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    run = Run(run_directory(load_settings().home, dag_id, run_id))
    framework = context["task"].command[-1]
    known = json.loads(run.registered(framework).read_text()) | json.loads(run.released(framework).read_text())
    facts = {key: known[key] for key in ("version", "accuracy", "server")} | {"run": f"{dag_id}/{run_id}"}
    context["outlet_events"][CHAMPIONS].add(champion(known["name"]), extra=facts)
