"""Clips: what the speech models hear, and the words they know. Shared by training and serving, so that both hear the same."""

import math

import numpy as np

from windtunnel.errors import WindtunnelError

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
"""The spoken commands, in the order of the enum `Label` of the protocol."""

SAMPLE_RATE = 16_000
CLIP_SAMPLES = 16_000
"""The longest clip: one second."""

FULL_SCALE = 32_768
_LOUDEST = 2.0


def as_clip(samples: np.ndarray) -> np.ndarray:
    """Samples as clients send them → float32 (CLIP_SAMPLES) in -1..1, silence after what is shorter.

    Clients send either -1..1 or the scale of 16-bit integers. Which one is told by the loudest sample: nothing in -1..1 reaches 2, and
    16-bit samples that do not are digital silence. What is louder than 16 bits can be is scaled down to full scale.

    Args:
        samples: real numbers, (N), with N from 1 to CLIP_SAMPLES.

    Raises:
        WindtunnelError: there are no samples or too many, or one is not finite.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not 1 <= len(samples) <= CLIP_SAMPLES:
        found = len(samples) if samples.ndim == 1 else f"shape {samples.shape}"
        raise WindtunnelError(f"a clip has 1 to {CLIP_SAMPLES} samples, one channel of {SAMPLE_RATE} Hz; found {found}: cut it first")
    peak = max(float(samples.max()), -float(samples.min()))
    if not math.isfinite(peak):
        place = int(np.isfinite(samples).argmin())
        raise WindtunnelError(f"sample {place} is {samples[place]}: send finite numbers, in -1..1 or of 16 bits")
    scale = max(peak, FULL_SCALE) if peak > _LOUDEST else 1.0
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    np.divide(samples, np.float32(scale), out=clip[: len(samples)])
    return clip


def as_pcm(clip: np.ndarray) -> np.ndarray:
    """A clip in -1..1 as 16-bit samples, int16: what was 16 bits before `as_clip` is the same again."""
    return np.clip(np.rint(np.asarray(clip, np.float32) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
