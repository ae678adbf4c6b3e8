"""Draw a run's conditions: what its frameworks share byte for byte.

    python -m train_server.conditions --run DIR --dag-id lenet5 --run-id ID --epochs 5 …

No framework draws, shuffles or schedules on its own: the initial weights, the order of the samples and the learning
rate of every step are drawn here, once, and the trainers read them (`train_server/README.md`).
"""

import math
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError
from safetensors.numpy import save

from windtunnel.datasets import DataSet, locate
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_atomically, write_json
from windtunnel.program import run_program
from windtunnel.run import Lineage, Run, git_commit
from windtunnel.settings import load_settings
from windtunnel.spec import FRAMEWORKS, Framework, Spec, first_problem
from windtunnel.tracking import client, reachable, start_parent

# The shapes of LeCun et al., "Gradient-based learning applied to document recognition" (1998), fig. 2, in PyTorch's layout.
SHAPES = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5), "f6": (84, 120), "out": (10, 84)}


def draw_weights(seed: int) -> dict[str, np.ndarray]:
    """Initial weights and biases, float32, uniform in ±1/sqrt(fan-in), as LeCun et al. ("Efficient BackProp", 1998) scale them."""
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = {}
    for layer, shape in SHAPES.items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f"{layer}.weight"] = generator.uniform(-bound, bound, shape).astype(np.float32)
        weights[f"{layer}.bias"] = generator.uniform(-bound, bound, shape[:1]).astype(np.float32)
    return weights


def draw_order(spec: Spec, available: int) -> np.ndarray:
    """The training samples of every step, int32 (epochs, steps per epoch, batch size).

    `spec.samples` of the `available` ones are chosen once; each epoch visits them in a new order, without repetition.
    """
    generator = np.random.Generator(np.random.PCG64([spec.seed, 1]))
    chosen = generator.permutation(available)[: spec.samples]
    shape = (spec.steps_per_epoch, spec.batch_size)
    epochs = [generator.permutation(chosen)[: math.prod(shape)].reshape(shape) for _ in range(spec.epochs)]
    return np.stack(epochs).astype(np.int32)


def learning_rates(spec: Spec) -> np.ndarray:
    """The learning rate of each step, float64 (steps).

    `constant`, or `cosine`: linear warm-up over the first tenth of the steps, then half a cosine down to zero
    (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    """
    if spec.schedule == "constant":
        return np.full(spec.steps, spec.learning_rate)
    warm_up = max(1, spec.steps // 10)
    step = np.arange(spec.steps)
    rising = (step + 1) / warm_up
    falling = (1 + np.cos(np.pi * (step - warm_up) / max(1, spec.steps - warm_up))) / 2
    return spec.learning_rate * np.where(step < warm_up, rising, falling)


def write_conditions(spec: Spec, data: DataSet, available: int, run: Run) -> None:
    """Write the spec and the conditions of a run, whole or not at all; `available` is the number of training images of `data`.

    What an earlier try left is replaced by the same bytes.
    """
    write_atomically(run.spec_file, spec.model_dump_json(indent=2).encode())
    partial = run.conditions.with_name(run.conditions.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(save(draw_weights(spec.seed)))
    schedule = {"order": draw_order(spec, available), "learning_rate": learning_rates(spec)}
    (partial / "schedule.safetensors").write_bytes(save(schedule))
    files = {file.name: sha256(file) for file in (run.spec_file, *sorted(partial.iterdir()))}
    write_json(partial / "conditions.json", {"files": files, "dataset": data.lineage()})
    shutil.rmtree(run.conditions, ignore_errors=True)
    partial.rename(run.conditions)


def choose_frameworks(names: str) -> tuple[Framework, ...]:
    """The frameworks in `names`, which has commas between them.

    Raises:
        WindtunnelError: one is unknown.
    """
    wanted = set(names.split(","))
    if unknown := wanted - set(FRAMEWORKS):
        raise WindtunnelError(f"framework {min(unknown)!r} is unknown: choose of {', '.join(FRAMEWORKS)}")
    return tuple(framework for framework in FRAMEWORKS if framework in wanted)


def note_lineage(run: Run, dag_id: str, run_id: str, frameworks: tuple[Framework, ...], fingerprint: str) -> None:
    """Write where a run comes from, and start it in MLflow; nothing on another try, when MLflow has the run already.

    `fingerprint` is that of the data.
    """
    if run.lineage_file.exists():
        return
    settings = load_settings()
    commit = git_commit(settings.root)
    tags = {"dag_id": dag_id, "run_id": run_id, "git_commit": commit, "data_fingerprint": fingerprint}
    with reachable(settings):
        parent = start_parent(client(settings), run.any_spec().model, run_id, tags)
    lineage = Lineage(dag_id=dag_id, run_id=run_id, git_commit=commit, mlflow_run=parent, frameworks=frameworks)
    write_json(run.lineage_file, lineage.model_dump())


def main(
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    dag_id: Annotated[str, typer.Option(help="The DAG that this run is one of.")],
    run_id: Annotated[str, typer.Option(help="Airflow's name of the run.")],
    frameworks: Annotated[str, typer.Option(help="Frameworks to train, with commas between.")] = ",".join(FRAMEWORKS),
    dataset: Annotated[str, typer.Option(help="mnist, fashion_mnist or auto.")] = "auto",
    samples: Annotated[str, typer.Option(help="Number of training images, or all.")] = "all",
    epochs: int = 5,
    learning_rate: float = 0.01,
    batch_size: int = 64,
    schedule: Annotated[str, typer.Option(help="cosine or constant.")] = "cosine",
    seed: int = 1,
    threads: int = 1,
) -> None:
    """Write the spec, the conditions and the lineage of a run into its directory."""
    data = locate(dataset, print)
    available = len(data.train()[1])
    wanted = choose_frameworks(frameworks)
    try:
        spec = Spec.model_validate({
            "dataset": data.name,
            "mean": data.mean,
            "std": data.std,
            "samples": available if samples == "all" else samples,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "schedule": schedule,
            "seed": seed,
            "threads": threads,
        })  # fmt: skip
    except ValidationError as error:
        raise WindtunnelError(f"this cannot be trained: {first_problem(error)}") from error
    if spec.samples > available:
        raise WindtunnelError(f"samples is {spec.samples}, but {data.name} has {available} training images: ask for fewer, or for all")

    here = Run(run)
    write_conditions(spec, data, available, here)
    print(f"{data.name}, fingerprint {data.fingerprint[:12]}: {spec.samples} of {available} training images")
    print(f"{spec.epochs} epochs of {spec.steps_per_epoch} steps, batch {spec.batch_size}, threads {spec.threads}, seed {spec.seed}")
    note_lineage(here, dag_id, run_id, wanted, data.fingerprint)


if __name__ == "__main__":
    run_program(main)
