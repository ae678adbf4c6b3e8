"""Recordings that are quick to learn: each word is a tone, somewhere in a second of noise."""

import numpy as np

from tests.windtunnel.data.spoken import wav, zipped
from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS

SPEAKERS = 40
FEW = 24
"""Of whom a model is trained from nothing, with the usual 60 epochs, in two thirds of the time."""


def tone(word: int, seed: int) -> np.ndarray:
    """Half a second of a word's tone somewhere in a second of noise, int16 (16000)."""
    random = np.random.default_rng([word, seed])
    start = random.integers(0, CLIP_SAMPLES // 2)
    clip = random.normal(0, 100, CLIP_SAMPLES)
    clip[start : start + 8000] += 4000 * np.sin(2 * np.pi * 300 * 1.5**word * np.arange(8000) / SAMPLE_RATE)
    return clip.astype(np.int16)


def tones_archive(speakers: int = SPEAKERS) -> bytes:
    """An archive like `mini_speech_commands.zip`, of a recording of each word by each speaker."""
    names = {
        (label, speaker): f"mini_speech_commands/{word}/{speaker:08x}_nohash_0.wav"
        for label, word in enumerate(WORDS)
        for speaker in range(speakers)
    }
    return zipped({name: wav(tone(*which)) for which, name in names.items()})
