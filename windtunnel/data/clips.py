"""Clips: the input of the speech models. Training and serving share this module, so that both use the same input."""

import math
from typing import NamedTuple

import numpy as np

from windtunnel.errors import WindtunnelError
from windtunnel.vocabulary import WORDS as WORDS  # most modules that use clips need it too

SAMPLE_RATE = 16_000
CLIP_SAMPLES = 16_000
"""The maximum length of a clip: one second."""

FULL_SCALE = 32_768
CLICKS = 160
"""The number of loudest samples, 10 ms, that are ignored when the scale of a clip is guessed: they may be clicks."""

OVERDRIVEN = 4.0
"""The maximum level of a clip in -1..1 above full scale. Louder samples are treated as clicks and cut off."""

QUIET = 32.0
"""Apart from clicks, a clip on the scale of 16-bit integers is louder than this, if a filter has made its samples fractional.

It is far above the maximum of an overdriven clip in -1..1, and 60 dB below the full scale of 16 bits, where no word can be heard.
"""


class Scale(NamedTuple):
    """The full scale of a clip: `full` is 1 or that of 16-bit integers; `sure` is False if that is a guess."""

    full: float
    sure: bool


def scale_of(samples: np.ndarray) -> Scale:
    """Determine the scale of a clip, which clients do not send. `samples` are real numbers (N), N at least 1, all finite.

    Integer types are on the scale of 16 bits, and so are floats that are all whole numbers, however quiet: a muted microphone gives a few
    steps of dither. Other floats up to 1 are in -1..1, and so are larger ones if only clicks exceed 1. Between that and `QUIET`, the
    scale is a guess.
    """
    if np.issubdtype(samples.dtype, np.integer):
        return Scale(FULL_SCALE, True)
    levels = np.abs(samples)
    peak = float(levels.max())
    if peak < 1:
        return Scale(1, True)
    if np.array_equal(np.rint(levels), levels):
        return Scale(FULL_SCALE, peak > 1)  # only -1, 0 and 1: dither, or the loudest possible noise
    if peak == 1:
        return Scale(1, True)
    beyond = {level: int(np.count_nonzero(levels > level)) > CLICKS for level in (1, OVERDRIVEN, QUIET)}
    if beyond[OVERDRIVEN]:
        return Scale(FULL_SCALE, beyond[QUIET])
    return Scale(1, peak <= OVERDRIVEN and not beyond[1])


def as_clip(samples: np.ndarray) -> np.ndarray:
    """Convert samples from clients to float32 (CLIP_SAMPLES) in -1..1. Shorter clips are padded with silence.

    Clients send either -1..1 or the scale of 16-bit integers; see `scale_of`. Louder clips are scaled down to full scale.

    Args:
        samples: 16-bit integers, or real numbers on either scale, (N), with N from 1 to CLIP_SAMPLES.

    Raises:
        WindtunnelError: there are no samples or too many, or one is not finite.
    """
    given = np.asarray(samples)
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not 1 <= len(samples) <= CLIP_SAMPLES:
        found = len(samples) if samples.ndim == 1 else f"shape {samples.shape}"
        raise WindtunnelError(f"a clip has 1 to {CLIP_SAMPLES} samples, one channel of {SAMPLE_RATE} Hz; found {found}: cut it first")
    peak = max(float(samples.max()), -float(samples.min()))
    if not math.isfinite(peak):
        place = int(np.isfinite(samples).argmin())
        raise WindtunnelError(f"sample {place} is {samples[place]}: send finite numbers, in -1..1 or as 16-bit integers")
    full = scale_of(given).full
    loudest = max(peak, full) if full > 1 else min(max(peak, 1.0), OVERDRIVEN)
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    np.divide(samples, np.float32(loudest), out=clip[: len(samples)])
    return clip if peak <= loudest else np.clip(clip, -1, 1, out=clip)


def as_audio(pcm: np.ndarray) -> np.ndarray:
    """Convert 16-bit samples, int16 of any shape, to float32 in -1..1."""
    return pcm.astype(np.float32) / FULL_SCALE


def as_pcm(clip: np.ndarray) -> np.ndarray:
    """Convert a clip in -1..1 to 16-bit samples, int16. For 16-bit input this is the inverse of `as_clip`."""
    return np.clip(np.rint(np.asarray(clip, np.float32) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
