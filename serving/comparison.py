"""Is B faster than A? Two rates, measured in turn on a machine that others disturb, and what can be said of their ratio.

The two take turns in the order ABBA, so that neither a machine that slows down nor the place in a pair favours one. Of each pair the
logarithm of the ratio is taken: what slows both cancels out. What hits one slice only makes an outlier, so the logarithms are judged by
their trimmed mean, a fifth cut off at each end, and its t interval (J. W. Tukey, D. H. McLaughlin, Sankhya A 25, 1963, 331-352).

How that was chosen, by simulation with noise of 10 % a slice, 30 rounds, and B 20 % slower: with normal noise everything finds it; with
one slice in ten disturbed, or Student's t noise of 2 degrees of freedom, the trimmed mean finds it in 97 to 98 of 100, Wilcoxon's
interval in 86 to 95, the sign test's in 93 to 95, the mean's t interval in 57 to 79. All of them call a difference of A and A in about
1 of 100, as they promise.

On a busy machine the noise is four times that, and nothing finds 20 % in 30 rounds. So there are more where the interval is still wide.
That looks at the width alone, never at where the interval lies: in the same simulations, A and A still differ in 1 to 2 of 100.
tests/serving/test_comparison.py repeats what is essential of all this.

Many short slices say more than a few long ones. On two cores with ten processes that wanted them, the rates of neighbouring slices
differed by 40 to 50 %, whether a slice took 0.1 s or 0.8 s: in the same time, the short ones halve the interval and more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats.mstats import trimmed_mean, trimmed_mean_ci

from windtunnel.errors import WindtunnelError

ROUNDS = 30
MIN_ROUNDS = 6  # of fewer, the interval is so wide that nothing can be found
MOST = 5  # times as many rounds, where the interval is wide
WIDE = 0.1  # half of it, in logarithms: half of what is to be found
TRIM = (0.2, 0.2)
CONFIDENCE = 0.99
"""So that 20 comparisons of A with A, together, call more than one difference in 2 of 100 such experiments; at 0.95 it would be in 26."""

Verdict = Literal["faster", "slower", "no difference"]


@dataclass(frozen=True)
class Comparison:
    """B's rate as a multiple of A's.

    Attributes:
        ratio: what it is, as far as is known.
        low: the lower end of its confidence interval.
        high: the upper end.
        confidence: of the interval, 0..1.
        verdict: what B is; "no difference" where the interval holds 1.
        rounds: pairs of slices that were measured.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    verdict: Verdict
    rounds: int


def compare(a: Callable[[], float], b: Callable[[], float], rounds: int = ROUNDS, confidence: float = CONFIDENCE) -> Comparison:
    """Measure A and B in turn, and judge.

    Args:
        a: measures A's rate once, over a slice of a tenth of a second or a few.
        b: measures B's.
        rounds: pairs of slices, after one slice of each that is not counted; as many more, up to `MOST` times, while the interval is
            wider than ±10 %.
        confidence: of the interval, 0..1.

    Raises:
        WindtunnelError: there are too few rounds, or a rate is none.
    """
    _check(rounds)
    a(), b()
    logs: list[float] = []
    while True:
        for number in range(len(logs), len(logs) + rounds):
            logs.append(_round(number, a, b))
        found = judge(logs, confidence)
        if math.log(found.high / found.low) <= 2 * WIDE or len(logs) >= MOST * rounds:
            return found


def _round(number: int, a: Callable[[], float], b: Callable[[], float]) -> float:
    """Measure each once, first the one that came last; the logarithm of the ratio."""
    if number % 2:
        of_b, of_a = b(), a()
    else:
        of_a, of_b = a(), b()
    for name, rate in (("A", of_a), ("B", of_b)):
        if not 0 < rate < math.inf:
            raise WindtunnelError(f"the rate of {name} in round {number + 1} is {rate:g}, which has no ratio: take longer slices")
    return math.log(of_b / of_a)


def judge(logs: list[float], confidence: float = CONFIDENCE) -> Comparison:
    """Judge by the logarithms of B's rate over A's, one a round.

    Raises:
        WindtunnelError: there are too few.
    """
    _check(len(logs))
    ends = trimmed_mean_ci(logs, TRIM, alpha=1 - confidence)
    ratio, low, high = (math.exp(value) for value in (trimmed_mean(logs, TRIM), *np.asarray(ends)))
    verdict: Verdict = "slower" if high < 1 else "faster" if low > 1 else "no difference"
    return Comparison(ratio, low, high, confidence, verdict, len(logs))


def _check(rounds: int) -> None:
    if rounds < MIN_ROUNDS:
        raise WindtunnelError(f"{rounds} rounds are too few to judge by: take {MIN_ROUNDS} or more, as {ROUNDS}")
