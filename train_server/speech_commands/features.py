"""Log-mel features as layers, so that they are part of the exported model and are the same in training and serving."""

import numpy as np
import torch
from torch import Tensor, nn

from windtunnel.data.clips import SAMPLE_RATE

HOP = 200  # samples, 12.5 ms; a frame is two hops
POINTS = 2 * HOP  # of a frame's Fourier transform
MELS = 40
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
FLOOR = 0.01  # of a frame's energy, in a clip with mean square 1
DENSE, SPARSE = 2000.0, 4000.0  # Hz: every bin is used below DENSE, every second up to SPARSE, and every fourth above
QUIETEST = 1e-16  # mean square: quieter clips are digital silence and are not amplified


def mel_filters() -> np.ndarray:
    """Return triangular filters, float64 (MELS, POINTS // 2 + 1), evenly spaced in mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy, 1987).

    The high filters are wide, so every second or fourth bin represents its neighbours; their weights are 0, and they are not computed.
    """
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    bins = np.arange(POINTS // 2 + 1)
    hertz = bins * SAMPLE_RATE / POINTS
    step = np.where(hertz < DENSE, 1, np.where(hertz < SPARSE, 2, 4))
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * np.where(bins % step == 0, step, 0)


def waves(bins: np.ndarray, samples: int) -> np.ndarray:
    """Return the cosines and sines of a Fourier transform of POINTS for its first `samples` samples, float64 (samples, 2 * bins)."""
    angle = 2 * np.pi * np.outer(np.arange(samples), bins) / POINTS
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


class LogMel(nn.Module):
    """Clips (N,16000), of any level → log-mel energies (N,40,79), about -1 to 2. The level of each clip is normalised.

    The Fourier transform is decimated in frequency (Gentleman and Sande, 1966): the even bins depend on the sum of the frame's halves, the
    odd bins on their difference. The even bins are split again in the same way. So the matrix products have half or a quarter of a frame's
    length.
    """

    early: Tensor
    late: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = np.sin(np.pi * (np.arange(POINTS) + 0.5) / POINTS) ** 2  # Hann
        self._register("early", window[:HOP])
        self._register("late", window[HOP:])
        filters = mel_filters()
        bins = np.flatnonzero(filters.any(axis=0))
        for name, some, samples in (
            ("odd", bins[bins % 2 == 1], HOP),
            ("second", bins[bins % 4 == 2], HOP // 2),
            ("fourth", bins[bins % 4 == 0], HOP // 2),
        ):
            self._register(f"{name}_waves", waves(some, samples))
            self._register(f"{name}_filters", np.tile(filters[:, some].T, (2, 1)))

    def _register(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Compute the power spectrum, apply the mel filters, normalise the level and take the logarithm."""
        blocks = audio.unflatten(1, (-1, HOP))
        blocks = blocks - _mean(blocks)
        early, late = blocks[:, :-1] * self.early, blocks[:, 1:] * self.late  # the halves of each frame
        even = early + late
        first, last = even[..., : HOP // 2], even[..., HOP // 2 :]
        power = self._energy("odd", early - late) + self._energy("second", first - last) + self._energy("fourth", first + last)
        level = _mean(blocks.square()) + QUIETEST
        return (power / level + FLOOR).log().transpose(1, 2) / 4

    def _energy(self, bins: str, samples: Tensor) -> Tensor:
        """Compute the energy that each filter gets from a group of bins: odd, second or fourth."""
        return (samples @ self.get_buffer(f"{bins}_waves")).square() @ self.get_buffer(f"{bins}_filters")


def _mean(blocks: Tensor) -> Tensor:
    """Compute the mean (N,1,1) of clips in blocks (N,B,S), in two steps: ONNX Runtime's sequential sum of 16,000 terms loses two digits."""
    return blocks.mean(2, keepdim=True).mean(1, keepdim=True)
