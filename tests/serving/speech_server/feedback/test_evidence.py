"""Whom a label is believed from, by the probabilities that a champion gives it."""

import numpy as np
import pytest

from serving.speech_server.feedback.evidence import STRANGER, believed, reliability


def accepted(heard: list[float], senders: list[str]) -> np.ndarray:
    probabilities = np.array(heard)
    return believed(probabilities, reliability(probabilities, senders))


def test_of_a_stranger_is_believed_what_the_champion_gives_one_in_five() -> None:
    assert accepted([0.25, 0.15, 0.95, 0.0], ["a", "b", "c", "d"]).tolist() == [True, False, True, False]
    assert reliability(np.array([0.9]), ["a"])[0] == pytest.approx(STRANGER, abs=1e-3)


def test_two_hundred_strangers_do_not_vouch_for_each_other() -> None:
    assert not accepted([0.1] * 200, [f"peer {number}" for number in range(200)]).any()
    assert not accepted([0.1] * 200 + [0.99] * 200, [""] * 400)[:200].any(), "nor do those whom nobody knows"


def test_who_is_mostly_right_can_teach_what_the_champion_does_not_know() -> None:
    typical = [0.97] * 28 + [0.08] * 2
    assert accepted(typical, ["ann"] * 30).all()
    assert not accepted([0.08, 0.08], ["ann"] * 2).any(), "who has shown nothing cannot"


@pytest.mark.parametrize("heard", [0.001, 0.03, 0.15, 0.3, 0.4])
def test_who_sends_nothing_but_noise_is_believed_in_none_of_it(heard: float) -> None:
    """Not even where each is called what the champion takes it for most."""
    assert not accepted([heard] * 60, ["bob"] * 60).any()


def test_a_suggestion_does_not_vouch_for_itself() -> None:
    first, second = ([wrong] + [0.97] * 10 for wrong in (0.001, 0.2))
    one, other = (reliability(np.array(heard), ["ann"] * 11) for heard in (first, second))
    assert one[0] == pytest.approx(other[0])
    assert one[1] < other[1] - 0.001, "but for the others"


@pytest.mark.parametrize(("right", "heard", "most"), [(50, 0.1, 12), (50, 0.02, 2), (50, 0.01, 0), (200, 0.01, 5), (200, 0.001, 0)])
def test_trust_cannot_be_spent_on_much_more_than_it_was_earned_on(right: int, heard: float, most: int) -> None:
    """However many wrong ones are sent among the right ones, no more than so many pass."""
    for wrong in (1, 2, 5, 10, 20, 50, 200):
        passed = accepted([0.98] * right + [heard] * wrong, ["eve"] * (right + wrong))[right:]
        assert passed.sum() <= most, wrong


def test_of_who_is_wrong_more_often_than_right_only_what_is_plain_is_believed() -> None:
    found = accepted([0.01] * 20 + [0.5, 0.99], ["bob"] * 22)
    assert found[-2:].tolist() == [False, True]
    assert accepted([0.5], ["bob"])[0], "of a stranger it is"


def test_certain_probabilities_and_no_suggestions() -> None:
    assert accepted([1.0, 0.0, 1.0, 0.0], ["ann"] * 4).tolist() == [True, False, True, False]
    assert accepted([], []).shape == (0,)


def test_each_sender_has_a_record_of_their_own() -> None:
    apart = np.concatenate([accepted([0.97] * 30 + [0.08], ["ann"] * 31), accepted([0.01] * 30 + [0.25], ["bob"] * 31)])
    mixed = accepted([0.97, 0.01] * 30 + [0.08, 0.25], ["ann", "bob"] * 31)
    assert mixed.tolist() == np.stack([apart[:31], apart[31:]], axis=1).ravel().tolist()
    assert mixed[-2:].tolist() == [True, False]
