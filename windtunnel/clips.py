"""Clips: what the speech models hear. Shared by training and serving, so that both hear the same."""

import math
from typing import NamedTuple

import numpy as np

from windtunnel.errors import WindtunnelError
from windtunnel.vocabulary import WORDS as WORDS  # which most who need clips need too

SAMPLE_RATE = 16_000
CLIP_SAMPLES = 16_000
"""The longest clip: one second."""

FULL_SCALE = 32_768
CLICKS = 160
"""The samples that do not count where the scale of a clip is guessed: so many of the loudest, 10 ms, may be clicks."""

OVERDRIVEN = 4.0
"""How far above full scale a clip in -1..1 is believed to be: what is louder yet is no sound but a click, and is cut off."""

QUIET = 32.0
"""Apart from clicks, a clip of 16-bit integers that have been filtered, and so are no whole numbers any more, is louder than this.

It is far above what one in -1..1 reaches, however overdriven, and 60 dB below the full scale of 16 bits, where nothing is a word.
"""


class Scale(NamedTuple):
    """What the full scale of a clip is, `full`: 1, or that of 16-bit integers. `sure`: whether that can be told, or is a guess."""

    full: float
    sure: bool


def scale_of(samples: np.ndarray) -> Scale:
    """The scale of a clip, which clients do not send: real numbers (N), N at least 1, all finite.

    Integers are of 16 bits, and so are real numbers that are whole, however quiet: a muted microphone gives a few steps of dither. Other
    numbers up to 1 are in -1..1, and so are larger ones where only clicks are. Between that and `QUIET` nobody can tell.
    """
    if np.issubdtype(samples.dtype, np.integer):
        return Scale(FULL_SCALE, True)
    levels = np.abs(samples)
    peak = float(levels.max())
    if peak < 1:
        return Scale(1, True)
    if np.array_equal(np.rint(levels), levels):
        return Scale(FULL_SCALE, peak > 1)  # -1, 0 and 1 alone: dither, or the loudest noise there can be
    if peak == 1:
        return Scale(1, True)
    beyond = {level: int(np.count_nonzero(levels > level)) > CLICKS for level in (1, OVERDRIVEN, QUIET)}
    if beyond[OVERDRIVEN]:
        return Scale(FULL_SCALE, beyond[QUIET])
    return Scale(1, peak <= OVERDRIVEN and not beyond[1])


def as_clip(samples: np.ndarray) -> np.ndarray:
    """Samples as clients send them → float32 (CLIP_SAMPLES) in -1..1, silence after what is shorter.

    Clients send either -1..1 or the scale of 16-bit integers, see `scale_of`. What is louder than full scale is scaled down to it.

    Args:
        samples: integers of 16 bits, or real numbers on either scale, (N), with N from 1 to CLIP_SAMPLES.

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
        raise WindtunnelError(f"sample {place} is {samples[place]}: send finite numbers, in -1..1 or of 16 bits")
    full = scale_of(given).full
    loudest = max(peak, full) if full > 1 else min(max(peak, 1.0), OVERDRIVEN)
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    np.divide(samples, np.float32(loudest), out=clip[: len(samples)])
    return clip if peak <= loudest else np.clip(clip, -1, 1, out=clip)


def as_audio(pcm: np.ndarray) -> np.ndarray:
    """Samples of 16 bits, int16 of any shape, as float32 in -1..1."""
    return pcm.astype(np.float32) / FULL_SCALE


def as_pcm(clip: np.ndarray) -> np.ndarray:
    """A clip in -1..1 as 16-bit samples, int16: what was 16 bits before `as_clip` is the same again."""
    return np.clip(np.rint(np.asarray(clip, np.float32) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
