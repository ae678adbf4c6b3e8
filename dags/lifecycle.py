"""The life of a model's versions as tasks, from the conditions to the report: what the DAGs of all models share."""

from collections.abc import Iterable

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, TriggerRule, chain, get_current_context, task, task_group

from dags.assets import CHAMPIONS, promoted
from dags.operators.approval import Approve
from dags.operators.runtime import program
from dags.operators.skipping import only_if
from dags.signing import signed
from dags.steps import APPROVE, BENCHMARK, FIRE_DRILL, NAMED, NOTED, POOL, RUN, TRAINING, WHO, step
from dags.texts import described
from windtunnel.model import Model


def release_params(margin: Param) -> dict[str, Param]:
    """Return the parameters of a release, in the order of the trigger form. `margin` is that of the model's metric."""
    return {
        "benchmark_seconds": Param(
            0.1,
            title="Seconds per measurement",
            type="number",
            minimum=0,
            maximum=60,
            section=BENCHMARK,
            description="Duration of each of the about 100 measurements of the benchmark, 0 to 60 s. 0: no benchmark.",
        ),
        "speed_margin": Param(
            0.1,
            title="Speed margin",
            type="number",
            minimum=0,
            maximum=1,
            section=BENCHMARK,
            description="How much slower than the champion a version may be without a warning, 0 to 1. 0.1 is 10 %.",
        ),
        "speed_gate": Param(
            False,
            title="Keep back slower versions",
            type="boolean",
            section=BENCHMARK,
            description="Do not promote a version that is slower than the champion by more than the speed margin.",
        ),
        "margin": margin,
        "approve": APPROVE,
        "fire_drill": FIRE_DRILL,
    }


def frameworks_param(model: Model, description: str) -> Param:
    """Return the parameter that chooses the frameworks to train a model with."""
    names = list(model.framework_names)
    return Param(
        list(model.default_frameworks),
        title="Frameworks",
        type="array",
        items={"type": "string", "enum": names},
        examples=names,
        minItems=1,
        uniqueItems=True,
        section=TRAINING,
        description=description,
    )


def add_tasks(model: Model, fields: Iterable[str]) -> None:
    """Add the tasks of a run of a model to the current DAG.

    The DAG has the parameters `frameworks`, `dataset`, `fields`, and those of `release_params`.

    Args:
        model: the model to train and release.
        fields: the parameters that are fields of the model's spec. One that is empty is left to the model's conditions.
    """
    conditions = program(
        "train_server.conditions",
        *RUN,
        *("--model", model.name, "--dag-id", "{{ dag.dag_id }}", "--run-id", "{{ run_id }}"),
        *("--frameworks", "{{ params.frameworks | join(',') }}", "--dataset", "{{ params.dataset }}"),
        *(word for name in fields for word in ("--param", f"{name}={{{{ params['{name}'] | tojson }}}}")),
        **described("conditions"),
    )

    @task(**described("frameworks"))
    def frameworks() -> list[str]:
        """Return the frameworks chosen in the trigger form."""
        return get_current_context()["params"]["frameworks"]

    @task_group(group_display_name="Train each framework")
    def framework(name: str) -> None:
        """Train a version with each framework."""
        program("train_server.train", *RUN, "--framework", name, pool=POOL, post_execute=signed, **described("train"), **NAMED)

    @task_group(group_display_name="Publish and verify")
    def publication(name: str) -> None:
        """Publish and verify each version on its server, while the champion stays loaded."""
        step("publish", name=name, **NAMED) >> step("verify", name=name, retries=0, **NAMED)

    @task_group(group_display_name="Release each version")
    def release(name: str) -> None:
        """Promote each version that is not worse than its champion."""
        speed = ("--speed-margin", "{{ params.speed_margin }}", "{{ '--speed-gate' if params.speed_gate else '--no-speed-gate' }}")
        approve = Approve(run=RUN[1], framework=name, map_index_template="{{ task.framework }}", **described("approve"))
        chain(
            step("gate", "--margin", "{{ params.margin }}", *speed, name=name, trigger_rule=TriggerRule.NONE_FAILED, **NAMED),
            approve,
            step("promote", WHO, "--approved-by", approve.output, name=name, outlets=[CHAMPIONS], post_execute=promoted, **NAMED),
            step("drill", name=name, task="fire_drill", pre_execute=only_if("fire_drill"), retries=0, **NAMED),
        )

    chosen = frameworks()
    certified = [program(model.parity, *RUN, retries=0, image="train_server", **described("parity"))] if model.parity else []
    measure = program(
        "serving.release.tasks",
        *("benchmark", *RUN, "--seconds", "{{ params.benchmark_seconds }}"),
        pool=POOL,
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        pre_execute=only_if("benchmark_seconds"),
        **described("measure"),
    )
    since = ("--started", "{{ dag_run.start_date.timestamp() }}")
    report = program(
        "train_server.reporting.report", *RUN, *since, retries=0, trigger_rule=TriggerRule.ALL_DONE, **NOTED, **described("report")
    )
    watcher = EmptyOperator(trigger_rule=TriggerRule.NONE_FAILED, **described("watcher"))

    trained, published, released = framework.expand(name=chosen), publication.expand(name=chosen), release.expand(name=chosen)
    chain(conditions, trained, *certified, published, measure, released, report)
    [published, released] >> watcher
