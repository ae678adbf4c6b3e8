"""What a no-op baseline computes: each output is a multiple of the same few numbers of every sample, without any work on the others."""

import math
from typing import Any

from windtunnel.errors import WindtunnelError
from windtunnel.model import Model

Shape = tuple[int, ...]

SCALE = 0.1234567  # a multiple of it has as many digits as a logit


def rows(model: Model) -> dict[str, Shape]:
    """Return the shape of a row of each output.

    Raises:
        WindtunnelError: the model can have no baseline.
    """
    found = {}
    for output in model.outputs:
        row = tuple(size for size in output.shape if size is not None)
        if len(row) < len(output.shape):
            raise WindtunnelError(f"{model.name} declares no size of its output {output.name}. Declare every size: found {output.shape}")
        if math.prod(row) > model.input.size:
            needed = f"{output.name} has {math.prod(row)} numbers, more than the {model.input.size} of a sample"
            raise WindtunnelError(f"an output of {model.name} cannot be taken from its input: {needed}")
        found[output.name] = row
    return found


def place(shape: Shape, count: int) -> tuple[Shape, int]:
    """Choose `count` numbers of a sample, of this shape.

    Returns:
        The shape in which they are found, `shape` itself or the flattened one, and the dimension along which they lie. Of the other
        dimensions it is the first index.
    """
    wide = [axis for axis, size in enumerate(shape) if size >= count]
    return (shape, wide[-1]) if wide else ((math.prod(shape),), 0)


def take(samples: Any, shape: Shape, count: int) -> Any:
    """Return the numbers that `place` chooses, (N, count), of samples, (N, shape): an array of NumPy or a tensor of PyTorch, not a copy."""
    view, axis = place(shape, count)
    seen = samples if view == shape else samples.reshape(-1, *view)
    return seen[(slice(None), *(slice(0, count) if each == axis else 0 for each in range(len(view))))]
