"""Waiting with a limit; that what is waited for comes from another process, tests of the model servers show."""

import pytest

from windtunnel.waiting import wait_until


def test_the_first_true_value_is_returned_and_nothing_is_looked_at_again():
    values = iter([None, 0, "", 7, 8])
    assert wait_until(lambda: next(values), seconds=60, poll=0.001) == 7
    assert next(values) == 8


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_what_does_not_come_is_looked_at_once_at_least_and_then_given_up(seconds):
    looks = []
    assert wait_until(lambda: looks.append("nothing"), seconds, poll=0.001) is None
    assert looks
