"""The no-op baseline in TorchScript. It is served by the models' handler, so the handler is part of the baseline."""

import math
from pathlib import Path

import torch

from serving.benchmark.no_op import SCALE, rows, take
from windtunnel.model import Model


class NoOp(torch.nn.Module):
    """Samples, float32 (N, shape) → the outputs of a model by name, each a multiple of the same few numbers of every sample."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.shape, self.rows = model.input.shape, rows(model)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Multiply."""
        numbers = {count: take(samples, self.shape, count) * SCALE for count in {math.prod(row) for row in self.rows.values()}}
        return {name: _shaped(numbers[math.prod(row)], row) for name, row in self.rows.items()}


def _shaped(numbers: torch.Tensor, row: tuple[int, ...]) -> torch.Tensor:
    return numbers if len(row) == 1 else numbers.reshape(-1, *row)


def write_no_op(export: Path, model: Model) -> None:
    """Write the baseline of a model into the file `export`."""
    # Traced: all shapes but the number of samples are constants, and nothing else depends on the values.
    torch.jit.trace(NoOp(model), torch.zeros(2, *model.input.shape), strict=False).save(str(export))
