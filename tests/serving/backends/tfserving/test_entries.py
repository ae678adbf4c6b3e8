"""The states of a registered model's entries, as the table in serving/backends/tfserving/backend.py lists them; no server is asked."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.backends.tfserving.model_config import Entries


def entries(users, standby, stable):
    return Entries(frozenset(users), frozenset(standby), stable)


NOTHING = Entries()
NO_CHAMPION = entries((), (1, 2, 3), None)
CHAMPION_1 = entries((1,), (2, 3), 1)
LOADED_3 = entries((1, 3), (2, 3), 1)
LABELLED_3 = entries((1, 2, 3), (2, 3), 3)
CHAMPION_3 = entries((1, 2, 3), (), 3)
LOST = entries((1, 2), (), None)


@pytest.mark.parametrize(
    ("before", "number", "steps"),
    [
        (CHAMPION_1, 3, (LOADED_3, LABELLED_3, CHAMPION_3)),
        (CHAMPION_3, 1, (LABELLED_3, CHAMPION_1, CHAMPION_1)),
        (NO_CHAMPION, 1, (entries((1,), (1, 2, 3), None), entries((1,), (1, 2, 3), 1), CHAMPION_1)),
        (LOADED_3, 1, (LOADED_3, CHAMPION_1, CHAMPION_1)),
        (LABELLED_3, 3, (LABELLED_3, LABELLED_3, CHAMPION_3)),
    ],
    ids=["up", "down", "first", "back after a cut", "on after a cut"],
)
def test_a_promotion_goes_through_the_states_of_the_table(before, number, steps):
    assert before.promotion(number) == steps


def test_a_published_version_is_below_the_champion_or_on_standby():
    assert NOTHING.with_published(1) == entries((), (1,), None)
    assert entries((2,), (), 2).with_published(1) == entries((1, 2), (), 2)
    assert entries((2,), (), 2).with_published(3) == entries((2,), (3,), 2)
    assert CHAMPION_3.with_published(2) == CHAMPION_3
    assert CHAMPION_3.without(frozenset({3})) == LOST
    assert LOST.with_published(3) == entries((1, 2), (3,), None)


MOVES = st.lists(st.tuples(st.sampled_from(("publish", "promote", "lose")), st.integers(1, 5), st.integers(0, 2)))


@given(MOVES, st.integers(1, 5))
def test_while_a_version_is_promoted_each_stays_loaded_and_no_third_answers_users(moves, number):
    """Whatever has happened before: versions were published, promoted, with the promotion cut off or not, and lost."""
    before = NOTHING
    for kind, moved, done in moves:
        if kind == "publish":
            before = before.with_published(moved)
        elif moved in before.versions:
            before = before.promotion(moved)[done] if kind == "promote" else before.without(frozenset({moved}))
    before = before.with_published(number)
    steps = before.promotion(number)
    for old, new in pairwise((before, *steps)):
        assert (old.users & new.users) | (old.standby & new.standby) == before.versions == new.versions
    for step in steps:
        assert max(step.users) in {max(before.users, default=number), number}
        assert step.stable is None or step.stable in step.users
    assert steps[-1] == Entries.split(before.versions, number)
