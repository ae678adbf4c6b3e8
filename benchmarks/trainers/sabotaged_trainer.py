"""The PyTorch trainer with a deliberate fault, which the parity certificate must find.

    python -m benchmarks.trainers.sabotaged_trainer KIND …          # and the flags of a trainer

The version does not mention the fault, so only its probe can reveal it. Only `make bench-parity` runs this program.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from train_server.contract import run_trainer_program
from train_server.lenet5.conditions import draw_weights
from train_server.lenet5.pytorch import PyTorch
from train_server.lenet5.trainer import Conditions, Trainer, load_conditions, train_under, verify


class PaddedFirst(PyTorch):
    """Pads with black pixels before normalising, instead of with zeros afterwards."""

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        super().__init__(conditions, dtype)
        images = torch.from_numpy(conditions.images).to(self.images.dtype).unsqueeze(1)
        self.images = (F.pad(images / 255, [2, 2, 2, 2]) - conditions.spec.mean) / conditions.spec.std


class HalfPrecision(PyTorch):
    """Rounds its weights to float16 between steps."""

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        super().__init__(conditions, dtype)
        self.round_weights()
        self.optimizer.register_step_post_hook(lambda *_: self.round_weights())

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round the weights to the nearest float16 values."""
        for weight in self.model.parameters():
            weight.copy_(weight.half())


def _spec(**changes: Any) -> Callable[[Conditions], Conditions]:
    return lambda conditions: replace(conditions, spec=conditions.spec.model_copy(update=changes))


def _shuffle_labels(conditions: Conditions) -> Conditions:
    """Give each of 1 % of the images the label of another one of them."""
    labels = conditions.labels.copy()
    chosen = np.random.default_rng(1).permutation(len(labels))[: len(labels) // 100]
    labels[chosen] = np.roll(labels[chosen], 1)
    return replace(conditions, labels=labels)


def _shuffle_order(conditions: Conditions) -> Conditions:
    """Visit the samples of each epoch in another order."""
    epochs = conditions.order.reshape(len(conditions.order), -1)
    return replace(conditions, order=np.random.default_rng(1).permuted(epochs, axis=1).reshape(conditions.order.shape))


@dataclass(frozen=True)
class Sabotage:
    """A change to the conditions, or to the trainer."""

    change: Callable[[Conditions], Conditions] = lambda conditions: conditions
    trainer: type[Trainer] = PyTorch


KINDS = {
    "no normalisation": Sabotage(_spec(mean=0.0, std=1.0)),
    "padding before normalising": Sabotage(trainer=PaddedFirst),
    "epsilon 1e-3": Sabotage(_spec(epsilon=1e-3)),
    "betas swapped": Sabotage(_spec(beta1=0.999, beta2=0.9)),
    "an epoch missing": Sabotage(lambda c: replace(c, order=c.order[:-1], learning_rate=c.learning_rate[:-1])),
    "labels of 1 % shuffled": Sabotage(_shuffle_labels),
    "samples in another order": Sabotage(_shuffle_order),
    "another initialisation": Sabotage(lambda c: replace(c, weights=draw_weights(c.spec.seed + 1))),
    "learning rate 10 % higher": Sabotage(lambda c: replace(c, learning_rate=c.learning_rate * 1.1)),
    "weights in float16": Sabotage(trainer=HalfPrecision),
}


def train(sabotage: Sabotage, spec: Path, data: Path, conditions: Path, out: Path) -> None:
    """Train as PyTorch's program does, with one fault."""
    train_under(sabotage.change(load_conditions(spec, data, conditions)), sabotage.trainer, out)


def main(kind: str = "", *flags: str) -> None:
    """Run the trainer that has this kind of sabotage."""
    if kind not in KINDS:
        sys.exit(f"error: sabotage {kind!r} is unknown: choose {', '.join(KINDS)}")
    sabotage = KINDS[kind]
    description = f"Train LeNet-5 in PyTorch, sabotaged: {kind}."
    run_trainer_program(
        f"benchmarks.trainers.sabotaged_trainer {kind!r}", description, partial(train, sabotage), partial(verify, sabotage.trainer), flags
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
