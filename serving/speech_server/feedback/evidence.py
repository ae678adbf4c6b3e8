"""Decide whether to believe the label of a suggested clip, from two sources: the champion and the sender's record.

The champion gives the label a probability p by what it hears. The sender is right in a share r of their suggestions. The two are
independent, so their odds multiply: the label is more likely right than wrong if p·r >= (1-p)·(1-r), which is p + r >= 1. A new sender's
label is believed if the champion gives it 1 in 5; a sender who is right in 19 of 20 can teach what the champion hardly hears. Nothing is
assumed about how a wrong label is chosen: at random, or as the champion's favourite.

A sender's share is estimated from their other suggestions, never from the one that is judged: in a share r of them the label is right. The
r that best explains what the champion hears in them has the highest weight, starting from a prior for new senders. So a sender gains about
as much trust as they have given evidence: with N right suggestions, at most about 2·N·p wrong ones pass to which the champion gives p, and
with 50, none passes to which it gives less than 0.02.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

RIGHT, WRONG = 4, 1
STRANGER = RIGHT / (RIGHT + WRONG)
"""The prior for a new sender: right four times in five."""

_SHARES = (np.arange(200) + 0.5) / 200
"""The values of r that are considered."""


def reliability(heard: np.ndarray, senders: Sequence[str]) -> np.ndarray:
    """Estimate how often each suggestion's sender is right, from the sender's other suggestions.

    Args:
        heard: the champion's probability for each label, 0..1, (N).
        senders: each suggestion's sender, N of them; a sender without a name counts as a new one each time.

    Returns:
        Shares in 0..1, (N).
    """
    shares = np.full(len(heard), STRANGER)
    rows = defaultdict(list)
    for row, sender in enumerate(senders):
        if sender:
            rows[sender].append(row)
    expected = (RIGHT - 1) * np.log(_SHARES) + (WRONG - 1) * np.log1p(-_SHARES)
    for own in rows.values():
        p = heard[own, None].astype(float)
        each = np.log(p * _SHARES + (1 - p) * (1 - _SHARES))  # how well each share explains a suggestion
        others = expected + each.sum(axis=0) - each
        weights = np.exp(others - others.max(axis=1, keepdims=True))
        shares[own] = weights @ _SHARES / weights.sum(axis=1)
    return shares


def believed(heard: np.ndarray, reliability: np.ndarray | float) -> np.ndarray:
    """Return whether each label is more likely right than wrong, bool (N); `heard` and `reliability` are (N), as above."""
    return heard + reliability >= 1
