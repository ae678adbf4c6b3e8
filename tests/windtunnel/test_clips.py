"""What clients send, as clips."""

import numpy as np
import pytest

from windtunnel.clips import CLIP_SAMPLES, as_clip, as_pcm
from windtunnel.errors import WindtunnelError

VOICE = np.random.default_rng(0).normal(0, 3000, CLIP_SAMPLES).clip(-32768, 32767).astype(np.int16)


def test_both_scales_are_the_same_clip():
    assert np.array_equal(as_clip(VOICE), as_clip(VOICE / 32768))
    assert np.abs(as_clip(VOICE)).max() <= 1


def test_sixteen_bits_come_back_as_they_were():
    extremes = np.array([-32768, -1, 0, 1, 32767], np.int16)
    for samples in (VOICE, extremes):
        assert np.array_equal(as_pcm(as_clip(samples))[: len(samples)], samples)


def test_what_is_shorter_ends_in_silence():
    clip = as_clip([0.5, -0.5])
    assert clip.shape == (CLIP_SAMPLES,)
    assert clip[:2].tolist() == [0.5, -0.5]
    assert not clip[2:].any()


@pytest.mark.parametrize("gain", [3, 3e30])
def test_what_is_too_loud_is_scaled_down(gain):
    clip = as_clip(VOICE.astype(np.float32) * gain)
    assert np.abs(clip).max() == pytest.approx(1)
    assert np.corrcoef(clip, VOICE)[0, 1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([], "found 0"),
        (np.zeros(CLIP_SAMPLES + 1), "found 16001"),
        (np.zeros((2, 10)), r"found shape \(2, 10\)"),
        ([0, float("nan")], "sample 1 is nan"),
        ([float("-inf")], "sample 0 is -inf"),
    ],
)
def test_what_is_no_clip_is_said(samples, problem):
    with pytest.raises(WindtunnelError, match=problem):
        as_clip(samples)
