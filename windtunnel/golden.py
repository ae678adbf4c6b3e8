"""The golden set of a version: a few inputs of a model with its trainer's own outputs and labels, in `golden.safetensors`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from windtunnel.errors import WindtunnelError
from windtunnel.model import Model

FILE = "golden.safetensors"
LABEL = "label"

TOLERANCE = 1e-5
"""Tolerance of an output, absolute, and relative for large values: float32 logits reach 40, where their last digit is 4e-6."""

Tensors = dict[str, np.ndarray]


def read_golden(directory: Path, model: Model) -> Tensors:
    """Read the golden set of a version: the model's input and outputs by name, float32 (N,…), and `label`, int64 (N).

    Raises:
        WindtunnelError: the file cannot be read, or lacks one of them.
    """
    file = directory / FILE
    try:
        golden = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WindtunnelError(f"{file} cannot be read ({error}): train again") from error
    expected = (model.input.name, *(output.name for output in model.outputs), LABEL)
    if missing := [name for name in expected if name not in golden]:
        found = ", ".join(sorted(golden))
        raise WindtunnelError(f"{file} lacks {', '.join(missing)}: found {found}, expected {', '.join(expected)}. Train again")
    return golden


def labels(first: np.ndarray) -> np.ndarray:
    """Return the labels, int64 (N): the arg-max of each row of a model's first output, (N,…). A row of one number has the label 0."""
    return first.reshape(len(first), -1).argmax(axis=1)


def far(found: np.ndarray | None, expected: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray | None:
    """Return which numbers of an output, (N,…), differ from the trainer's by more than the tolerance; None if it has another shape.

    NaN differs from every number.
    """
    if found is None or found.shape != expected.shape:
        return None
    return ~np.isclose(found, expected, rtol=tolerance, atol=tolerance)


def wrong_labels(model: Model, outputs: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]) -> int:
    """Count the samples to which the outputs give another label than the golden set. Both have the same samples."""
    return int((labels(outputs[model.outputs[0].name]) != golden[LABEL]).sum())
