"""Compare a version's answers with its trainer's."""

import numpy as np

from windtunnel.errors import WindtunnelError
from windtunnel.golden import TOLERANCE, far


class WrongAnswerError(WindtunnelError):
    """A version's answer differs from its trainer's, is late, or is missing."""


def compare(what: str, found: np.ndarray | None, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Compare an answer with the trainer's; `tolerance` is absolute, and relative for large values.

    Raises:
        WrongAnswerError: the answer is missing, has another shape, or differs by more than the tolerance.
    """
    wrong = far(found, expected, tolerance)
    if found is None or wrong is None:
        shape = "nothing" if found is None else f"shape {list(found.shape)}"
        raise WrongAnswerError(f"{what} of {shape}, expected shape {list(expected.shape)}. Export it again as the trainer contract says")
    if wrong.any():
        place = tuple(int(index[0]) for index in wrong.nonzero())
        raise WrongAnswerError(
            f"{what} {found[place]} at {list(place)}, expected the trainer's {expected[place]}: {int(wrong.sum())} of {wrong.size} numbers "
            f"differ by more than {tolerance:g}. This is not the model that was trained: train it again"
        )
