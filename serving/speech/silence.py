"""What can be no word: one threshold for what is refused as a suggestion and rejected as speech, and one for what is too short."""

import numpy as np

from windtunnel.clips import SAMPLE_RATE

SILENCE_DBFS = -70.0
"""A clip is silence where no 100 ms of it are louder: RMS, its mean removed, in decibels below full scale (an RMS of 1).

Of mini_speech_commands one clip in 200 is below it, recorded with the microphone off. Of the others 95 in 100 are above -40: they are
no silence when played 20 dB softer either.
"""

SHORTEST = SAMPLE_RATE // 5
"""Samples: the shortest of the words takes longer than 0.2 s to say."""

_FRAME = SAMPLE_RATE // 10


def loudness(clip: np.ndarray) -> float:
    """The RMS of the loudest 100 ms of a clip in -1..1, its mean removed, in dBFS; -inf for zeros."""
    short = -len(clip) % _FRAME
    frames = np.pad(clip - clip.mean(), (0, short)).reshape(-1, _FRAME)
    power = float(np.square(frames).mean(axis=1).max())
    return float(10 * np.log10(power)) if power > 0 else -np.inf


def is_silence(clip: np.ndarray) -> bool:
    """Whether a clip in -1..1 holds nothing that could be a word."""
    return loudness(clip) < SILENCE_DBFS
