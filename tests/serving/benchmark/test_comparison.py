import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from serving.benchmark.comparison import CONFIDENCE, MIN_ROUNDS, MOST, ROUNDS, Comparison, compare, judge
from windtunnel.errors import WindtunnelError

EXPERIMENTS = 150


def disturbed(random, slices):
    """A tenth of the slices lose a third or more to another process."""
    return np.where(random.random(slices) < 0.1, random.uniform(-1.5, -0.3, slices), 0)


def bursts(random, slices):
    """Something else runs now and then, for several slices."""
    slowed = np.zeros(slices)
    for start in np.flatnonzero(random.random(slices) < 0.04):
        slowed[start : start + random.integers(2, 8)] = -random.uniform(0.2, 1)
    return slowed


def busy(random, slices):
    """More processes than cores, for seconds at a time."""
    noise = random.normal(0, 0.3, slices)
    return noise + np.convolve(random.normal(0, 0.3, slices), 0.8 ** np.arange(20), "same")


NOISES = {
    "quiet": lambda random, slices: random.normal(0, 0.02, slices),
    "normal": lambda random, slices: random.normal(0, 0.1, slices),
    "heavy tails": lambda random, slices: random.standard_t(2, slices) * 0.1,
    "single slices disturbed": lambda random, slices: random.normal(0, 0.1, slices) + disturbed(random, slices),
    "bursts": lambda random, slices: random.normal(0, 0.1, slices) + bursts(random, slices),
    "a busy machine": busy,
    "a machine that slows down": lambda random, slices: random.normal(0, 0.1, slices) + np.linspace(0, -1, slices),
}


def experiment(noise, random, factor, rounds=ROUNDS):
    """Compare rates of 1,000 and of `factor` times that, each slice of which the noise (of logarithms) changes."""
    noises = iter(NOISES[noise](random, 2 * MOST * rounds + 2))
    return compare(lambda: 1000 * math.exp(next(noises)), lambda: factor * 1000 * math.exp(next(noises)), rounds)


@pytest.mark.parametrize("noise", NOISES)
def test_no_difference_is_called_where_there_is_none_and_one_of_20_per_cent_is_found(noise):
    random = np.random.default_rng(5)
    same = [experiment(noise, random, 1).verdict for _ in range(EXPERIMENTS)]
    assert sum(verdict != "no difference" for verdict in same) / EXPERIMENTS <= 0.03, "one or two of 150 are expected, at 0.99"
    slower = [experiment(noise, random, 0.8) for _ in range(EXPERIMENTS)]
    assert sum(found.verdict == "slower" for found in slower) / EXPERIMENTS >= 0.95
    assert sum(found.low <= 0.8 <= found.high for found in slower) / EXPERIMENTS >= 0.97, "the interval holds the truth"


def test_few_rounds_find_less_but_invent_nothing():
    random = np.random.default_rng(6)
    verdicts = [experiment("single slices disturbed", random, 1, MIN_ROUNDS).verdict for _ in range(EXPERIMENTS)]
    assert sum(verdict != "no difference" for verdict in verdicts) / EXPERIMENTS <= 0.03


def test_there_are_more_rounds_where_the_interval_is_wide():
    random = np.random.default_rng(8)
    assert experiment("quiet", random, 1).rounds == ROUNDS
    busy = [experiment("a busy machine", random, 1) for _ in range(10)]
    assert ROUNDS < max(found.rounds for found in busy) <= MOST * ROUNDS
    assert all(found.rounds % ROUNDS == 0 for found in busy)
    assert all(found.rounds == MOST * ROUNDS or found.high / found.low <= 1.1**2.1 for found in busy)


def test_a_faster_one_is_called_faster():
    found = experiment("normal", np.random.default_rng(7), 1.25)
    assert found.verdict == "faster"
    assert found.low < found.ratio < found.high
    assert found.ratio == pytest.approx(1.25, rel=0.05)


def test_the_slices_alternate_in_pairs_after_one_of_each_that_is_not_counted():
    order = []
    rates = itertools.chain([1.0, 9.0], itertools.repeat(5.0))  # the uncounted ones differ

    def measure(name):
        order.append(name)
        return next(rates)

    found = compare(lambda: measure("A"), lambda: measure("B"), 8)
    assert "".join(order) == "AB" + 4 * "ABBA"
    assert found == Comparison(1, 1, 1, CONFIDENCE, "no difference", 8)


def test_rates_without_any_noise_are_judged_by_what_they_are():
    assert compare(lambda: 100.0, lambda: 99.0, 6).verdict == "slower"
    assert compare(lambda: 99.0, lambda: 100.0, 6).verdict == "faster"


def test_a_comparison_is_json():
    found = judge([0.01, -0.01] * 5)
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
    assert set(asdict(found)) == {"ratio", "low", "high", "confidence", "verdict", "rounds"}


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_an_error(rate):
    with pytest.raises(WindtunnelError, match=rf"the rate of B in round 1 is {rate:g}, .* longer slices"):
        compare(lambda: 1.0, lambda: rate, 6)


def test_too_few_rounds_are_an_error_before_anything_is_measured():
    with pytest.raises(WindtunnelError, match="too few rounds to compare: found 5, expected 6 or more"):
        compare(lambda: pytest.fail("measured"), lambda: pytest.fail("measured"), 5)


def test_an_error_of_a_measurement_is_the_comparison_s():
    def fail():
        raise WindtunnelError("a wrong answer")

    with pytest.raises(WindtunnelError, match="a wrong answer"):
        compare(lambda: 1.0, fail)
