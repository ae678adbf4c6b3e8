"""Probabilities that mean what they say, and what rejecting below one of them costs and gains.

A network is surer than it should be, or less: the temperature of its softmax is fitted afterwards, on speakers that it has not learned from
(Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599), and here with it how likely no command is. It is fitted for as
many commands as other sounds. As in Platt's scaling, a clip more than there are counts as wrong: else whoever makes no mistake is certain.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from windtunnel.speech import OperatingPoint

LOST = (0.01, 0.02, 0.05, 0.1)
"""The shares of the commands that are heard right which the operating points lose."""

USUAL = 0.05
"""Of these shares, the one a version is released with."""


def fit(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The scale of logits, and the offset of the last one, that make their softmax the most likely.

    Args:
        logits: float32 (N,K+1).
        labels: int64 (N), K for no command; commands and other sounds count the same, however many they are.

    Returns:
        Two scalars.
    """
    others = labels == logits.shape[1] - 1
    weights = torch.where(others, 0.5 / others.sum().clamp(min=1), 0.5 / (~others).sum().clamp(min=1))
    found = torch.zeros(2, requires_grad=True)  # the logarithm of the scale, which stays positive so, and the offset
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
    """What rejecting costs and gains.

    Args:
        commands: the probabilities of the words in commands, float32 (N,K).
        labels: the words, int (N).
        others: the probabilities of the words in what is no command, float32 (M,K).

    Returns:
        A point for each of LOST, in its order.
    """
    sure = commands.max(1)[commands.argmax(1) == labels]
    points = []
    for lost in LOST:
        limit = round(float(np.quantile(sure, lost)), 4) if len(sure) else 0.0
        rejected = float((others.max(1) < limit).mean())
        points.append(OperatingPoint(reject_below=limit, commands_lost=lost, others_rejected=round(rejected, 4)))
    return tuple(points)
