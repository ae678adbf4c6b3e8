"""Draw LeNet-5's conditions: the initial weights, the order of the samples and the learning rate of every step.

`train_server.conditions` calls `draw` once for all frameworks of a run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from train_server.conditions import check_samples, training_samples
from train_server.lenet5.model import LENET5, Spec
from windtunnel.data.datasets import DataSet

# The shapes of LeCun et al., "Gradient-based learning applied to document recognition" (1998), fig. 2, in PyTorch's layout.
SHAPES = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5), "f6": (84, 120), "out": (10, 84)}


def draw_weights(seed: int) -> dict[str, np.ndarray]:
    """Draw the initial weights and biases, float32, uniform in ±1/sqrt(fan-in) (LeCun et al., "Efficient BackProp", 1998)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = {}
    for layer, shape in SHAPES.items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f"{layer}.weight"] = generator.uniform(-bound, bound, shape).astype(np.float32)
        weights[f"{layer}.bias"] = generator.uniform(-bound, bound, shape[:1]).astype(np.float32)
    return weights


def draw_order(spec: Spec, available: int) -> np.ndarray:
    """Draw the training samples of every step, int32 (epochs, steps per epoch, batch size).

    `spec.samples` of the `available` samples are chosen once; each epoch uses them in a new order, without repetition.
    """
    generator = np.random.Generator(np.random.PCG64([spec.seed, 1]))
    chosen = generator.permutation(available)[: spec.samples]
    shape = (spec.steps_per_epoch, spec.batch_size)
    epochs = [generator.permutation(chosen)[: math.prod(shape)].reshape(shape) for _ in range(spec.epochs)]
    return np.stack(epochs).astype(np.int32)


def learning_rates(spec: Spec) -> np.ndarray:
    """Compute the learning rate of each step, float64 (steps).

    The schedule is `constant`, or `cosine`: linear warm-up over the first tenth of the steps, then half a cosine down to zero
    (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    """
    if spec.schedule == "constant":
        return np.full(spec.steps, spec.learning_rate)
    warm_up = max(1, spec.steps // 10)
    step = np.arange(spec.steps)
    rising = (step + 1) / warm_up
    falling = (1 + np.cos(np.pi * (step - warm_up) / max(1, spec.steps - warm_up))) / 2
    return spec.learning_rate * np.where(step < warm_up, rising, falling)


def draw(data: DataSet, chosen: Mapping[str, Any], directory: Path) -> Spec:
    """Return the spec of a run on `data` with the `chosen` fields, and write its conditions into `directory`.

    Raises:
        ValidationError: a field is invalid.
        WindtunnelError: there are fewer training images than samples in the spec.
    """
    available = training_samples(data)
    spec = Spec.model_validate({"mean": data.mean, "std": data.std, "samples": available, **chosen, "dataset": data.name})
    check_samples(spec, LENET5, data, available)
    write_files(spec, available, directory)
    return spec


def write_files(spec: Spec, available: int, directory: Path) -> None:
    """Write the initial weights and the schedule of `spec` into `directory`; `available` is the number of training images."""
    (directory / "weights.safetensors").write_bytes(save(draw_weights(spec.seed)))
    schedule = {"order": draw_order(spec, available), "learning_rate": learning_rates(spec)}
    (directory / "schedule.safetensors").write_bytes(save(schedule))
