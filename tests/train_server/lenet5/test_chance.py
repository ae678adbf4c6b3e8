import numpy as np
import pytest
from scipy.stats import binom

from train_server.lenet5.chance import CORRELATION, CORRELATION_OTHERWISE, FALSE_ALARMS, largest_difference


def alarms(right, correlation):
    """Whether any two of the frameworks are called different: bool (runs), of the images each gets right, bool (runs, 3, images)."""
    found = np.zeros(len(right), bool)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        discordant = (right[:, one] != right[:, other]).sum(1)
        difference = np.abs(right[:, one].sum(1) - right[:, other].sum(1))
        limits = {number: largest_difference(int(number), correlation, 3) for number in np.unique(discordant)}
        found |= difference > np.array([limits[number] for number in discordant])
    return found


def trainings(runs, doubtful, luck, seed=1, handicap=0.0):
    """Three trainings of each run, of the images that are doubtful: each gets half of them right, and a little more or less by its luck."""
    generator = np.random.default_rng(seed)
    chance = 0.5 + generator.normal(0, luck, (runs, 3, 1))
    chance[:, 0] -= handicap
    return generator.random((runs, 3, doubtful), np.float32) < chance


@pytest.mark.parametrize("doubtful", [20, 140, 920])
def test_equal_trainings_are_called_different_in_at_most_one_run_of_1000(doubtful):
    luck = np.sqrt(CORRELATION / 8)  # of two trainings, which share half of the doubtful images, as much as `CORRELATION` says
    right = trainings(10_000, doubtful, luck)
    assert alarms(right, CORRELATION).mean() <= FALSE_ALARMS
    if doubtful == 920:
        assert alarms(right, 1e-9).mean() > 5 * FALSE_ALARMS  # McNemar's own test, for which each image is a coin of its own


def test_the_simulated_luck_is_what_the_correlation_says():
    right = trainings(10_000, 920, np.sqrt(CORRELATION / 8))
    discordant = (right[:, 0] != right[:, 1]).sum(1)
    difference = right[:, 0].sum(1) - right[:, 1].sum(1, dtype=int)
    assert np.mean(difference**2 / discordant) == pytest.approx(1 + 459 * CORRELATION, rel=0.05)


def test_a_framework_that_is_two_points_worse_is_found():
    handicap = 200 / 920  # 200 of 10,000 test images
    assert alarms(trainings(2000, 920, np.sqrt(CORRELATION / 8), handicap=handicap), CORRELATION).mean() > 0.99


def test_without_correlation_it_is_mcnemars_exact_test():
    for discordant in (15, 70, 464):
        limit = largest_difference(discordant, 1e-9, 1)
        p_value = [2 * binom.sf((discordant + difference) / 2 - 1, discordant, 0.5) for difference in (limit, limit + 2)]
        assert p_value[0] >= FALSE_ALARMS > p_value[1]


@pytest.mark.parametrize("correlation", [CORRELATION, CORRELATION_OTHERWISE])
def test_a_few_images_prove_nothing(correlation):
    for discordant in range(12):
        assert largest_difference(discordant, correlation, 3) == discordant


def test_the_limit_grows_with_the_images_the_correlation_and_the_pairs():
    assert largest_difference(500, CORRELATION, 3) > largest_difference(400, CORRELATION, 3)
    assert largest_difference(500, CORRELATION_OTHERWISE, 3) > largest_difference(500, CORRELATION, 3)
    assert largest_difference(500, CORRELATION, 3) > largest_difference(500, CORRELATION, 1)
