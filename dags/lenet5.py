"""# LeNet-5, three ways

Trains LeNet-5 in libtorch C++, PyTorch and TensorFlow **under the same conditions**, registers a version of each, and
proves by a parity certificate that they trained the same thing.

| task | what it does |
|---|---|
| `conditions` | finds the data set; draws initial weights, sample order and learning rates, once for all frameworks |
| `train` | one framework's trainer, one at a time, so that training times can be compared |
| `register` | the version goes into MLflow's registry, with its lineage |
| `parity` | compares logits, gradients, losses and accuracies; fails the run if a number misses its limit |
| `report` | the table: accuracy, training time, parity; it also runs after a failure, and says what is missing |

Trigger it with the play button, `airflow dags trigger lenet5` or `windtunnel run lenet5 --param epochs=2`.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, task, task_group

from dags.runtime import program
from windtunnel.settings import load_settings, run_directory
from windtunnel.spec import FRAMEWORKS, SCHEDULES

SETTINGS = load_settings()
RUN = ("--run", "{{ run_directory(dag.dag_id, run_id) }}")

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
    "samples": Param(None, type=["null", "integer"], minimum=1, description="Training images; empty: all of them."),
    "epochs": Param(5, type="integer", minimum=1, maximum=1000, description="Passes through the training images."),
    "learning_rate": Param(0.01, type="number", exclusiveMinimum=0, description="Adam's; the peak of the schedule."),
    "batch_size": Param(64, type="integer", minimum=1, maximum=60_000, description="Images in a step."),
    "schedule": Param("cosine", type="string", enum=list(SCHEDULES), description="cosine: a tenth of warm-up, then down to zero."),
    "seed": Param(1, type="integer", minimum=0, description="Decides initial weights, chosen images and their order."),
    "threads": Param(1, type="integer", minimum=1, maximum=256, description="Of each trainer; more pay on idle cores only."),
}

with DAG(
    "lenet5",
    description="LeNet-5 in libtorch, PyTorch and TensorFlow under the same conditions",
    doc_md=__doc__,
    schedule=SETTINGS.schedule,
    catchup=False,
    params=PARAMS,
    tags=["train"],
    user_defined_macros={"run_directory": lambda dag_id, run_id: run_directory(SETTINGS.home, dag_id, run_id)},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
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
        """What happens to each framework."""
        named = {"map_index_template": "{{ task.command[-1] }}"}
        train = program("train_server.train", *RUN, "--framework", name, task_id="train", pool="training", **named)
        register = program("train_server.register", *RUN, "--framework", name, task_id="register", **named)
        train >> register

    parity = program("train_server.parity", *RUN, task_id="parity", retries=0)
    report = program("train_server.report", *RUN, task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)

    conditions >> framework.expand(name=frameworks()) >> parity >> report
