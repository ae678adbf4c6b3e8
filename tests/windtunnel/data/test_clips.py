"""What clients send, as clips."""

import numpy as np
import pytest

from windtunnel.data.clips import CLICKS, CLIP_SAMPLES, FULL_SCALE, as_clip, as_pcm, scale_of
from windtunnel.errors import WindtunnelError

RANDOM = np.random.default_rng(1)
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


def clicked(samples: np.ndarray, *clicks: float) -> np.ndarray:
    """Samples as real numbers, with clicks among them."""
    clip = samples.astype(np.float32)
    clip[100 : 100 + len(clicks)] = clicks
    return clip


def filtered(samples: np.ndarray) -> np.ndarray:
    """What a resampler makes of samples: no whole numbers."""
    return np.convolve(samples, [0.21, 0.47, 0.3], "same").astype(np.float32)


DITHER = RANDOM.integers(-2, 3, CLIP_SAMPLES)


@pytest.mark.parametrize(
    ("samples", "full", "sure"),
    [
        (VOICE / FULL_SCALE, 1, True),
        (np.clip(VOICE / 3000, -1, 1), 1, True),
        (clicked(VOICE / FULL_SCALE, 2.5), 1, True),
        (clicked(VOICE / FULL_SCALE, *[-3.0] * CLICKS), 1, True),
        (clicked(VOICE / FULL_SCALE, 700), 1, False),
        (VOICE / 10_000, 1, True),
        (VOICE / 2000, 1, False),
        (VOICE.astype(np.float32), FULL_SCALE, True),
        (VOICE.astype(np.float32) // 1000, FULL_SCALE, True),
        (filtered(VOICE), FULL_SCALE, True),
        (filtered(VOICE / 500), FULL_SCALE, False),
        (DITHER.astype(np.float32), FULL_SCALE, True),
        (filtered(DITHER), 1, False),
        (np.clip(DITHER, -1, 1).astype(np.float32), FULL_SCALE, False),
        (DITHER.astype(np.int16), FULL_SCALE, True),
        (np.clip(DITHER, -1, 1).astype(np.int16), FULL_SCALE, True),
        (np.zeros(5), 1, True),
        (np.array([2.5]), 1, True),
    ],
    ids=[
        *("in -1..1", "cut off at full scale", "a click", "clicks for 10 ms", "a click beyond belief", "somewhat too loud", "overdriven"),
        *("16 bits", "soft 16 bits", "16 bits resampled", "soft 16 bits resampled"),
        *("dither", "dither resampled", "least dither", "dither as integers", "least dither as integers", "zeros", "one sample"),
    ],
)
def test_the_scale_is_told_by_more_than_the_loudest_sample(samples, full, sure):
    assert scale_of(samples) == (full, sure)
    assert np.abs(as_clip(samples)).max() <= 1


@pytest.mark.parametrize("click", [2.5, -1.2])
def test_a_click_costs_its_own_level_and_no_sample_its_shape(click):
    clip = as_clip(clicked(VOICE / FULL_SCALE, click))
    assert np.array_equal(clip, clicked(VOICE / FULL_SCALE, click) / np.float32(abs(click)))
    beyond_belief = as_clip(clicked(VOICE / FULL_SCALE, 700))
    assert np.abs(beyond_belief).mean() > np.abs(VOICE / FULL_SCALE).mean() / 5


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
