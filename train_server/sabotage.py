"""The PyTorch trainer with something wrong with it: what the parity certificate must find.

    python -m train_server.sabotage KIND --spec FILE --data DIR --conditions DIR --out DIR

Its version says nothing of it: what it notes is all there is to find it by. Only `make bench-parity` starts this.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer

from train_server.conditions import draw_weights
from train_server.lenet5.pytorch import PyTorch
from train_server.trainer import Conditions, Trainer, load_conditions, train_under
from windtunnel.errors import WindtunnelError
from windtunnel.program import run_program


class PaddedFirst(PyTorch):
    """Pads with black pixels before it normalises, instead of with zeros after."""

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        super().__init__(conditions, dtype)
        images = torch.from_numpy(conditions.images).to(self.images.dtype).unsqueeze(1)
        self.images = (F.pad(images / 255, [2, 2, 2, 2]) - conditions.spec.mean) / conditions.spec.std


class HalfPrecision(PyTorch):
    """Keeps its weights in float16 between the steps."""

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        super().__init__(conditions, dtype)
        self.round_weights()
        self.optimizer.register_step_post_hook(lambda *_: self.round_weights())

    @torch.no_grad()
    def round_weights(self) -> None:
        """To the nearest that float16 holds."""
        for weight in self.model.parameters():
            weight.copy_(weight.half())


def _spec(**changes: Any) -> Callable[[Conditions], Conditions]:
    return lambda conditions: replace(conditions, spec=conditions.spec.model_copy(update=changes))


def _shuffle_labels(conditions: Conditions) -> Conditions:
    """Gives each of 1 % of the images the label of another of them."""
    labels = conditions.labels.copy()
    chosen = np.random.default_rng(1).permutation(len(labels))[: len(labels) // 100]
    labels[chosen] = np.roll(labels[chosen], 1)
    return replace(conditions, labels=labels)


def _shuffle_order(conditions: Conditions) -> Conditions:
    """Visits the samples of each epoch in another order."""
    epochs = conditions.order.reshape(len(conditions.order), -1)
    return replace(conditions, order=np.random.default_rng(1).permuted(epochs, axis=1).reshape(conditions.order.shape))


@dataclass(frozen=True)
class Sabotage:
    """What is done to the conditions, or to the trainer."""

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


def main(
    kind: Annotated[str, typer.Argument()],
    spec: Annotated[Path, typer.Option()],
    data: Annotated[Path, typer.Option()],
    conditions: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Train as PyTorch's program does, with one thing wrong."""
    if kind not in KINDS:
        raise WindtunnelError(f"sabotage {kind!r} is unknown: choose {', '.join(KINDS)}")
    sabotage = KINDS[kind]
    train_under(sabotage.change(load_conditions(spec, data, conditions)), sabotage.trainer, out)


if __name__ == "__main__":
    run_program(main)
