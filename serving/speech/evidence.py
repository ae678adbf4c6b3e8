"""How far a label that somebody gave a clip is to be believed: two witnesses, the champion and whoever sent it.

The champion gives the label a probability p by what it hears. Its sender is right in a share r of what they suggest. Neither knows of the
other, so their odds multiply: the label is rather right than wrong where p·r >= (1-p)·(1-r), which is p + r >= 1. What a sender never heard
of suggests is believed where the champion gives it 1 in 5; a sender who is right in 19 of 20 can teach what the champion hardly hears.
Nothing is assumed of how a wrong label is chosen: at random, or as the one that the champion likes best.

How often a sender is right is told by their other suggestions, never by the one that is judged: in a share r of them the label is right.
The r that explains best what the champion hears in them is believed most, beginning with what is expected of a stranger. So trust is
earned on about as many suggestions as it is spent on: among N right ones pass no more than some 2·N·p wrong ones to which the champion
gives p, and among 50 not one to which it gives less than 0.02.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

RIGHT, WRONG = 4, 1
STRANGER = RIGHT / (RIGHT + WRONG)
"""A stranger counts as who has been right four times in five."""

_SHARES = (np.arange(200) + 0.5) / 200
"""The shares r that a sender may be right in."""


def reliability(heard: np.ndarray, senders: Sequence[str]) -> np.ndarray:
    """How often each suggestion's sender is right, as the sender's other suggestions tell.

    Args:
        heard: the probability, 0..1, that the champion gives each label, (N).
        senders: who sent each, N of them; who is nameless is a stranger each time.

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
        each = np.log(p * _SHARES + (1 - p) * (1 - _SHARES))  # how well a share explains a suggestion
        others = expected + each.sum(axis=0) - each
        weights = np.exp(others - others.max(axis=1, keepdims=True))
        shares[own] = weights @ _SHARES / weights.sum(axis=1)
    return shares


def believed(heard: np.ndarray, reliability: np.ndarray | float) -> np.ndarray:
    """Whether each label is rather right than wrong, bool (N); `heard` and `reliability` are (N), as above."""
    return heard + reliability >= 1
