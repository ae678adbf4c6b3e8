"""A short run of `make bench-judge`: the real server, few rounds, and a delay that cannot be overlooked."""

import statistics

import pytest

from benchmarks.model_servers.comparison_accuracy import FAST, SLOW, Experiment, experiment, problems, serving, tabulate
from benchmarks.running_servers import private_settings
from serving.backends.base import Version
from serving.benchmark.comparison import Comparison
from windtunnel.tables import render

DELAY = 0.03  # seconds
SLICE = 0.3  # seconds of a measurement


@pytest.fixture(scope="module")
def rate(trained, tmp_path_factory):
    """Measures the two versions, one of which takes so much longer that it shows beside whatever else the machine does."""
    version = Version("lenet5-tensorflow", FAST, trained("tensorflow"))
    with serving(version, private_settings(tmp_path_factory.mktemp("judging")), DELAY, SLICE) as measures:
        yield measures


def test_the_delay_is_what_a_request_takes_longer(rate):
    fast, slow = (statistics.median(rate(number) for _ in range(5)) for number in (FAST, SLOW))
    # Requests wait for each other's delays; where the first answer comes as the slice begins, there is one more in it.
    assert 0 < slow <= 1 / DELAY + 1 / SLICE
    assert fast > 1.5 * slow


def test_a_gross_delay_is_found(rate):
    found = experiment("slower", rate, 6)
    assert (found.truth, found.comparison.verdict) == ("slower", "slower")
    assert problems([found]) == []


def test_the_same_is_compared_with_itself(rate):
    found = experiment("no difference", rate, 6)
    assert found.truth == "no difference"
    assert found.comparison.low < 1.5
    assert found.comparison.high > 1 / 1.5


def judged(truth, *verdicts):
    return [Experiment(truth, Comparison(0.8, 0.7, 0.9, 0.99, verdict, 50)) for verdict in verdicts]


SAME = judged("no difference", *["no difference"] * 19)
SLOWED = judged("slower", *["slower"] * 19)


def test_one_mistake_in_twenty_is_allowed_and_two_are_not():
    allowed = [*SAME, *judged("no difference", "faster"), *SLOWED, *judged("slower", "no difference")]
    assert problems(allowed) == []
    assert problems([*SAME, *SLOWED]) == []
    (called,) = problems([*SAME[1:], *judged("no difference", "faster", "slower"), *SLOWED])
    assert called == "a difference was reported in 2 of 20 comparisons of A with A"
    (found,) = problems([*SAME, *SLOWED[1:], *judged("slower", "no difference", "faster")])
    assert found == "a B slowed by 20% was found in only 18 of 20 comparisons"


def test_the_confusion_table_counts_every_verdict():
    text = render(tabulate([*SAME, *judged("no difference", "faster"), *SLOWED[:5], *judged("slower", "no difference")], "a title"))
    rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in text.splitlines() if line.startswith("│")]
    assert rows[1:] == [["no difference", "1", "19", "0"], ["slower", "0", "1", "5"]]
