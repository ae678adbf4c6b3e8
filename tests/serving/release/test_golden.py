"""What is verified on a golden set; and when an answer is late: by a clock of the test's own, on which a busy machine can be had."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from serving.answers import WrongAnswerError
from serving.backends.base import Version
from serving.release import golden
from serving.release.golden import LATE_SECONDS, _in_time, verify
from tests.serving.fake_server import FakeServer

POINTS = np.arange(12, dtype=np.float32).reshape(3, 4)
SCORES = np.array([[0, 1, 2], [5, 1, 0], [1, 2, 0]], np.float32)


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
    with pytest.raises(WrongAnswerError, match=r"it took 3\.5 s or more in 3 tries, expected at most 3 s\. Look for what delays it"):
        _in_time("it", answers(3.7, 3.5, 4))


@pytest.fixture
def version(extension, tmp_path):
    """A version of the model `blobs`, which takes points and returns `scores` and `distance`."""
    tensors = {"point": POINTS, "scores": SCORES, "distance": POINTS[:, 0].copy(), "label": SCORES.argmax(axis=1)}
    save_file(tensors, tmp_path / "golden.safetensors")
    return Version("blobs-numpy", 1, tmp_path)


def test_a_model_with_other_outputs_is_verified_over_every_protocol_as_a_whole_and_alone(version):
    server = FakeServer({"scores": SCORES, "distance": POINTS[:, 0]})
    verify(server, version)
    assert [(name, len(samples), number, protocol) for name, samples, number, protocol in server.asked] == [
        ("blobs-numpy", count, 1, protocol) for protocol in ("rest", "grpc") for count in (3, 1)
    ]
    assert np.array_equal(server.asked[0][1], POINTS)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"scores": SCORES}, "answers distance of nothing, expected shape [3]"),
        ({"scores": SCORES, "distance": POINTS[:, :1]}, "answers distance of shape [3, 1], expected shape [3]"),
        ({"scores": SCORES, "distance": POINTS[:, 1]}, "answers distance 1.0 at [0], expected the trainer's 0.0: 3 of 3 numbers differ"),
        ({"scores": SCORES + 1e-3, "distance": POINTS[:, 0]}, "answers scores 0.001"),
        ({"scores": SCORES * np.nan, "distance": POINTS[:, 0]}, "answers scores nan"),
    ],
)
def test_wrong_answers_are_refused(version, answer, says):
    with pytest.raises(WrongAnswerError) as raised:
        verify(FakeServer(answer), version)
    assert says in str(raised.value)


def test_a_wrong_label_is_refused(version):
    save_file(
        {"point": POINTS, "scores": SCORES, "distance": POINTS[:, 0].copy(), "label": np.zeros(3, np.int64)},
        version.directory / "golden.safetensors",
    )
    with pytest.raises(WrongAnswerError, match="gives wrong labels to 2 samples"):
        verify(FakeServer({"scores": SCORES, "distance": POINTS[:, 0]}), version)
