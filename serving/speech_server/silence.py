"""Thresholds for clips that cannot be a word: one for silence, in suggestions and in recognition, and one for clips that are too short."""

import numpy as np

from windtunnel.data.clips import SAMPLE_RATE

SILENCE_DBFS = -70.0
"""A clip is silent if no 100 ms of it are louder than this: RMS with the mean removed, in decibels below full scale (an RMS of 1).

In mini_speech_commands, one clip in 200 is below it, recorded with the microphone off. Of the others, 95 in 100 are above -40, so they
would not count as silence even if played 20 dB softer.
"""

SHORTEST = SAMPLE_RATE // 5
"""In samples: saying the shortest of the words takes longer than 0.2 s."""

_FRAME = SAMPLE_RATE // 10


def loudness(clip: np.ndarray) -> float:
    """Return the RMS of the loudest 100 ms of a clip in -1..1, with the mean removed, in dBFS; -inf for zeros."""
    short = -len(clip) % _FRAME
    frames = np.pad(clip - clip.mean(), (0, short)).reshape(-1, _FRAME)
    power = float(np.square(frames).mean(axis=1).max())
    return float(10 * np.log10(power)) if power > 0 else -np.inf


def is_silence(clip: np.ndarray) -> bool:
    """Return whether a clip in -1..1 contains nothing that could be a word."""
    return loudness(clip) < SILENCE_DBFS
