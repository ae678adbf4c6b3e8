"""Log-mel features as layers, so that they are part of what is exported: what is heard in training is heard in serving."""

import numpy as np
import torch
from torch import Tensor, nn

from windtunnel.clips import SAMPLE_RATE

HOP = 200  # samples, 12.5 ms: a frame is two of them
POINTS = 2 * HOP  # of its Fourier transform
MELS = 40
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
FLOOR = 0.01  # of a frame's energy, in a clip whose mean square is 1
QUIETEST = 1e-8  # rms: what is quieter is digital silence, and stays quiet


def mel_filters() -> np.ndarray:
    """Triangular filters, float64 (MELS, POINTS // 2 + 1), evenly spaced in mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy, 1987)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    hertz = np.arange(POINTS // 2 + 1) * SAMPLE_RATE / POINTS
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def half_waves(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, float64 (HOP, bins), under the first half of a Hann window: for the even and the odd part of a frame.

    They are centred in the frame, which changes the phases only. Products of half a frame take half the time of those of a whole one.
    """
    place = np.arange(HOP) + 0.5 - HOP
    window = 0.5 + 0.5 * np.cos(np.pi * place / HOP)
    angle = 2 * np.pi * np.outer(place, bins) / POINTS
    return window[:, None] * np.cos(angle), window[:, None] * np.sin(angle)


class LogMel(nn.Module):
    """Clips (N,16000), of any level, → log-mel energies (N,40,79), about -1 to 2: as loud as if all clips had the same mean square."""

    cosines: Tensor
    sines: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters()
        used = np.flatnonzero(filters.any(axis=0))
        for name, values in zip(("cosines", "sines", "filters"), (*half_waves(used), filters[:, used].T), strict=True):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Level, spectrum, mel, logarithm."""
        audio = audio - audio.mean(1, keepdim=True)
        audio = audio / (audio.square().mean(1, keepdim=True).sqrt() + QUIETEST)
        blocks = audio.unflatten(1, (-1, HOP))
        first, second = blocks[:, :-1], blocks[:, 1:].flip(2)  # the halves of each frame, the second one backwards
        power = ((first + second) @ self.cosines).square() + ((first - second) @ self.sines).square()
        return (power @ self.filters + FLOOR).log().transpose(1, 2) / 4
