"""When an answer is late: by a clock of the test's own, on which a busy machine can be had."""

import pytest

from serving import golden
from serving.golden import LATE_SECONDS, WrongAnswerError, _in_time


@pytest.fixture
def answers(monkeypatch):
    """Makes what asks a version that takes so many seconds for each answer."""
    now = 0.0
    monkeypatch.setattr(golden.time, "monotonic", lambda: now)

    def make(*seconds):
        taken = iter(seconds)

        def ask():
            nonlocal now
            now += next(taken)
            return {"logits": now}

        return ask

    return make


def test_a_busy_machine_does_not_make_a_version_late(answers):
    assert _in_time("it", answers(3.7, 12, LATE_SECONDS)) == {"logits": 3.7 + 12 + LATE_SECONDS}


def test_a_version_that_is_never_in_time_is_late(answers):
    with pytest.raises(WrongAnswerError, match=r"it took 3\.5 s or more in 3 tries, expected at most 3 s; look for what it waits for"):
        _in_time("it", answers(3.7, 3.5, 4))
