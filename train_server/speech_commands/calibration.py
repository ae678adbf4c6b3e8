"""Calibrate the probabilities of a network, and compute the operating points for rejecting clips.

A trained network is overconfident or underconfident, so the temperature of its softmax is fitted after training, on speakers that were not
used for training (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599). An offset of the logit of no command is fitted
with it. Commands and other sounds have equal weight. As in Platt scaling, the labels are smoothed as if one additional clip were wrong;
otherwise the probabilities of a network without errors would become 1.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from windtunnel.recognizer import OperatingPoint

LOST = (0.01, 0.02, 0.05, 0.1)
"""The fractions of the correctly recognised commands that the operating points reject."""

USUAL = 0.05
"""The fraction in `LOST` that a version is released with."""


def fit(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the scale of all logits and the offset of the last logit by maximum likelihood.

    Args:
        logits: float32 (N,K+1).
        labels: int64 (N), K for no command. Commands and other sounds have equal total weight, regardless of their numbers.

    Returns:
        Two scalars.
    """
    others = labels == logits.shape[1] - 1
    weights = torch.where(others, 0.5 / others.sum().clamp(min=1), 0.5 / (~others).sum().clamp(min=1))
    found = torch.zeros(2, requires_grad=True)  # the logarithm of the scale, which keeps the scale positive, and the offset
    optimizer = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")
    wrong = 1 / (2 + min(int(others.sum()), int((~others).sum())))
    last = F.one_hot(torch.tensor(logits.shape[1] - 1), logits.shape[1])

    def loss() -> Tensor:
        optimizer.zero_grad()
        changed = logits * found[0].exp() + found[1] * last
        value = (F.cross_entropy(changed, labels, reduction="none", label_smoothing=wrong) * weights).sum()
        value.backward()
        return value

    optimizer.step(loss)
    scale, offset = found.detach().unbind()
    return scale.exp(), offset


def operating_points(commands: np.ndarray, labels: np.ndarray, others: np.ndarray) -> tuple[OperatingPoint, ...]:
    """Compute the limits that reject the fractions `LOST` of the commands, and the fraction of other sounds that each rejects.

    Args:
        commands: the probabilities of the words for commands, float32 (N,K).
        labels: the words of the commands, int (N).
        others: the probabilities of the words for other sounds, float32 (M,K).

    Returns:
        A point for each fraction in `LOST`, in this order.
    """
    sure = commands.max(1)[commands.argmax(1) == labels]
    points = []
    for lost in LOST:
        limit = round(float(np.quantile(sure, lost)), 4) if len(sure) else 0.0
        rejected = float((others.max(1) < limit).mean())
        points.append(OperatingPoint(reject_below=limit, commands_lost=lost, others_rejected=round(rejected, 4)))
    return tuple(points)
