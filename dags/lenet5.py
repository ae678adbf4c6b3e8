"""# LeNet-5, three ways

Trains LeNet-5 in libtorch C++, PyTorch and TensorFlow **under the same conditions**, registers a version of each, proves
by a parity certificate that they trained the same thing, and releases each: after it has answered right on a real server and
was measured there, and only if it is no worse than what users have, users get it.

| task | what it does |
|---|---|
| `conditions` | finds the data set; draws initial weights, sample order and learning rates, once for all frameworks |
| `train` | one framework's trainer, one at a time, so that training times can be compared; the version goes into MLflow's registry, \
with its lineage |
| `parity` | compares logits, gradients, losses and accuracies; fails the run if a number misses its limit |
| `publish` | the version is loaded on its server, beside what users get |
| `verify` | its golden set goes through REST and gRPC; an answer that is wrong or late ends the release |
| `measure` | inference of every version that was verified: throughput and latency beside the limit in process and the floor of the \
protocol, and beside the champion; nothing else is measured or trained meanwhile |
| `gate` | held-out accuracy of challenger and champion; a challenger worse by more than `margin` stays one: the rest is skipped. \
One that is slower by more than `speed_margin` is warned of, with `speed_gate` it stays one too |
| `approve` | with `approve`: a person sees the gate's table and answers in Airflow; a rejection skips the rest |
| `promote` | users get it: registry, server, and the model's Asset, on which other DAGs can be scheduled |
| `fire_drill` | with `fire_drill`: a version broken on purpose must be turned away while the champion goes on answering |
| `report` | the result as a table and, in the run's tab Report, as a page with plots; what the run's time was spent on; in MLflow and \
TensorBoard, what was measured; after a failure too, saying what is missing |
| `watcher` | fails the run if a release failed, though the report after it succeeds |

A task that is skipped says why in its log and its XCom `skipped`; a run with skipped tasks is a success.

Trigger it with the play button, `airflow dags trigger lenet5` or `windtunnel run lenet5 --param epochs=2`.
"""

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, chain, task, task_group

from dags.approval import Approve
from dags.champions import CHAMPIONS, promoted
from dags.runtime import only_if, program
from dags.steps import COMMON, LARGEST, MARGIN, NAMED, POOL, RUN, step
from windtunnel.settings import load_settings
from windtunnel.spec import FRAMEWORKS, SCHEDULES

PARAMS = {
    "frameworks": Param(
        list(FRAMEWORKS),
        type="array",
        items={"type": "string", "enum": list(FRAMEWORKS)},
        examples=list(FRAMEWORKS),
        minItems=1,
        uniqueItems=True,
        description="What to train with.",
    ),
    "dataset": Param("auto", type="string", enum=["auto", "mnist", "fashion_mnist"], description="auto: MNIST, else Fashion-MNIST."),
    "samples": Param(None, type=["null", "integer"], minimum=1, maximum=LARGEST, description="Training images; empty: all of them."),
    "epochs": Param(5, type="integer", minimum=1, maximum=1000, description="Passes through the training images."),
    "learning_rate": Param(0.01, type="number", exclusiveMinimum=0, maximum=LARGEST, description="Adam's; the peak of the schedule."),
    "batch_size": Param(64, type="integer", minimum=1, maximum=60_000, description="Images in a step."),
    "schedule": Param("cosine", type="string", enum=list(SCHEDULES), description="cosine: a tenth of warm-up, then down to zero."),
    "seed": Param(1, type="integer", minimum=0, maximum=LARGEST, description="Decides initial weights, chosen images and their order."),
    "threads": Param(1, type="integer", minimum=1, maximum=256, description="Of each trainer; more pay on idle cores only."),
    "margin": MARGIN,
    "benchmark_seconds": Param(
        0.1,
        type="number",
        minimum=0,
        maximum=60,
        description="Of each measurement of the benchmark, some 100 in all; 0: none.",
    ),
    "speed_margin": Param(
        0.1, type="number", minimum=0, maximum=1, description="How much slower than the champion is nothing to warn of; 0.1 is a tenth."
    ),
    "speed_gate": Param(False, type="boolean", description="A version slower by more than that stays challenger."),
    "approve": Param(False, type="boolean", description="Ask a person before users get a version."),
    "fire_drill": Param(False, type="boolean", description="Afterwards, publish a broken version and see it turned away."),
}

with DAG(
    "lenet5",
    description="LeNet-5 in libtorch, PyTorch and TensorFlow under the same conditions",
    doc_md=__doc__,
    schedule=load_settings().schedule,
    params=PARAMS,
    **COMMON,
):
    conditions = program(
        "train_server.conditions",
        *RUN,
        *("--dag-id", "{{ dag.dag_id }}", "--run-id", "{{ run_id }}"),
        *("--frameworks", "{{ params.frameworks | join(',') }}", "--samples", "{{ params.samples or 'all' }}"),
        *("--dataset", "{{ params.dataset }}", "--schedule", "{{ params.schedule }}", "--epochs", "{{ params.epochs }}"),
        *("--learning-rate", "{{ params.learning_rate }}", "--batch-size", "{{ params.batch_size }}", "--seed", "{{ params.seed }}"),
        *("--threads", "{{ params.threads }}"),
        task_id="conditions",
    )

    @task
    def frameworks(params: dict[str, Any]) -> list[str]:
        """What to train with, as chosen in the trigger form."""
        return params["frameworks"]

    @task_group
    def framework(name: str) -> None:
        """How each framework comes to a version."""
        program("train_server.train", *RUN, "--framework", name, task_id="train", pool=POOL, **NAMED)

    @task_group
    def publication(name: str) -> None:
        """How each comes to its server, beside what users get."""
        step("publish", name=name, **NAMED) >> step("verify", name=name, retries=0, **NAMED)

    @task_group
    def release(name: str) -> None:
        """How users come to get it."""
        speed = ("--speed-margin", "{{ params.speed_margin }}", "{{ '--speed-gate' if params.speed_gate else '--no-speed-gate' }}")
        approve = Approve(run=RUN[1], framework=name, task_id="approve", map_index_template="{{ task.framework }}")
        chain(
            step("gate", "--margin", "{{ params.margin }}", *speed, name=name, trigger_rule=TriggerRule.NONE_FAILED, **NAMED),
            approve,
            step("promote", "--approved-by", approve.output, name=name, outlets=[CHAMPIONS], post_execute=promoted, **NAMED),
            step("drill", name=name, task_id="fire_drill", pre_execute=only_if("fire_drill"), retries=0, **NAMED),
        )

    chosen = frameworks()
    parity = program("train_server.parity", *RUN, task_id="parity", retries=0)
    measure = program(
        *("serving.tasks", "benchmark", *RUN, "--seconds", "{{ params.benchmark_seconds }}"),
        **{"task_id": "measure", "pool": POOL, "trigger_rule": TriggerRule.ALL_DONE_MIN_ONE_SUCCESS},
        pre_execute=only_if("benchmark_seconds"),
    )
    since = ("--started", "{{ dag_run.start_date.timestamp() }}")
    report = program("train_server.report", *RUN, *since, task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)
    watcher = EmptyOperator(task_id="watcher", trigger_rule=TriggerRule.NONE_FAILED)

    published, released = publication.expand(name=chosen), release.expand(name=chosen)
    conditions >> framework.expand(name=chosen) >> parity >> published >> measure >> released >> report
    [published, released] >> watcher
