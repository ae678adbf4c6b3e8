"""Draw a run's conditions: what its frameworks share byte for byte.

    python -m train_server.conditions --spec FILE --data DIR --out DIR

No framework draws, shuffles or schedules on its own: the initial weights, the order of the samples and the learning
rate of every step are drawn here, once, and the trainers read them (`train_server/README.md`).
"""

import math
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from windtunnel.datasets import DataSet
from windtunnel.files import sha256, write_json
from windtunnel.spec import Spec

# The shapes of LeCun et al., "Gradient-based learning applied to document recognition" (1998), fig. 2, in PyTorch's layout.
SHAPES = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5), "f6": (84, 120), "out": (10, 84)}
CLASSES = 10


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


def write_conditions(spec: Spec, spec_file: Path, data: DataSet, available: int, out: Path) -> None:
    """Write `weights.safetensors`, `schedule.safetensors` and `conditions.json` into `out`, whole or not at all.

    `spec_file` holds `spec` and `available` is the number of training images of `data`. What an earlier try left in `out` is replaced.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "weights.safetensors").write_bytes(save(draw_weights(spec.seed)))
    schedule = {"order": draw_order(spec, available), "learning_rate": learning_rates(spec)}
    (partial / "schedule.safetensors").write_bytes(save(schedule))
    files = {file.name: sha256(file) for file in (spec_file, partial / "weights.safetensors", partial / "schedule.safetensors")}
    write_json(partial / "conditions.json", {"files": files, "dataset": data.lineage()})
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
