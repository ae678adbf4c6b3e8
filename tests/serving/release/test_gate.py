from datetime import UTC, datetime

import pytest

from serving.release.gate import Verdict, judge, judge_speed, tabulate
from windtunnel.model import metric_of
from windtunnel.registered import RegisteredVersion


def version(number, value, data="d" * 64, name="lenet5-pytorch"):
    return RegisteredVersion(
        name=name,
        version=number,
        aliases=(),
        framework="pytorch",
        metric=metric_of(name),
        value=value,
        dag_run="lenet5/manual__1",
        git_commit="c0ffee",
        data_fingerprint=data,
        manifest_sha256="m" * 64,
        mlflow_run="run",
        source="",
        created=datetime(2026, 11, 23, tzinfo=UTC),
    )


def test_the_first_version_passes():
    assert judge(version(1, 0.1), None, 0).promote


@pytest.mark.parametrize(
    ("accuracy", "margin", "promote"),
    [
        (0.9910, 0.0, True),
        (0.9920, 0.0, True),
        (0.9909, 0.0, False),
        (0.9860, 0.005, True),  # exactly the margin below, which floats make a little more
        (0.9859, 0.005, False),
        (0.0, 1.0, True),
        (float("nan"), 1.0, False),
    ],
)
def test_a_challenger_may_be_worse_by_the_margin(accuracy, margin, promote):
    verdict = judge(version(2, accuracy), version(1, 0.9910), margin)
    assert (verdict.promote, verdict.worse) == (promote, not promote)


def test_the_reason_names_the_numbers_and_the_way_past_the_gate():
    reason = judge(version(2, 0.97), version(1, 0.99), 0.005).reason
    assert "version 2 has accuracy 97.00%, 2.00 points below the champion's, expected at most 0.50" in reason
    assert "windtunnel deploy lenet5-pytorch@2" in reason


def test_accuracies_on_different_data_are_not_compared():
    verdict = judge(version(2, 0.99), version(1, 0.9, data="e" * 64), 1.0)
    assert (verdict.promote, verdict.worse) == (False, False)
    assert "different data" in verdict.reason


@pytest.mark.usefixtures("extension")
def test_a_model_of_another_package_is_judged_by_its_own_metric():
    better, worse = (version(number, error, name="blobs-numpy") for number, error in ((2, 0.125), (3, 0.25)))
    assert judge(better, worse, 0) == Verdict(True, "error 0.125, the champion's 0.250")
    verdict = judge(worse, better, 0.1)
    assert (verdict.promote, verdict.worse) == (False, True)
    assert "version 3 has error 0.250, 0.125 above the champion's, expected at most 0.100" in verdict.reason
    assert "| test error | 0.250 | 0.125 |" in tabulate(worse, better, verdict)


def compared(high, invalid=None):
    """Of a challenger that has four fifths of the champion's rate."""
    found = {"model": "lenet5-pytorch", "version": 2, "against": 1, "server": "torchserve", "protocol": "grpc", "concurrency": 10}
    return found | {"batch": 1, "ratio": 0.8, "low": 0.7, "high": high, "confidence": 0.99, "rounds": 15, "invalid": invalid}


@pytest.mark.parametrize(
    ("comparisons", "slower"),
    [
        ([], False),
        ([compared(0.89)], True),
        ([compared(0.91)], False),  # it may be within the margin
        ([compared(0.91), compared(0.89)], True),
        ([compared(0.89, invalid="a wrong answer")], False),  # no figure says nothing
    ],
)
def test_a_slower_challenger_is_warned_of_or_with_the_gate_stays_one(comparisons, slower):
    accurate = Verdict(True, "as accurate")
    warned = judge_speed(accurate, version(2, 0.99), comparisons, 0.1, binding=False)
    assert (warned == accurate) is not slower
    assert warned.promote
    held = judge_speed(accurate, version(2, 0.99), comparisons, 0.1, binding=True)
    assert held.promote is not slower
    if slower:
        rate = "0.80 times the champion's requests per second (0.70 to 0.89 with 99% confidence)"
        number = f"over grpc at concurrency 10 {rate}, expected at least 0.90"
        assert warned.reason == f"as accurate; warning: version 2 is slower than the champion: {number}"
        assert number in held.reason
        assert "windtunnel deploy lenet5-pytorch@2" in held.reason


def test_a_fast_challenger_that_is_worse_stays_one():
    worse = Verdict(False, "it is worse", worse=True)
    assert judge_speed(worse, version(2, 0.9), [], 0.1, binding=True) == worse
    slower = judge_speed(worse, version(2, 0.9), [compared(0.8)], 0.1, binding=True)
    assert (slower.promote, slower.worse) == (False, True)


def test_the_table_shows_both():
    challenger, champion = version(2, 0.97), version(1, 0.99)
    table = tabulate(challenger, champion, judge(challenger, champion, 0.005))
    assert "| test accuracy | 97.00% | 99.00% |" in table
    assert "| test accuracy | 97.00% | none yet |" in tabulate(challenger, None, judge(challenger, None, 0))
