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
DENSE, SPARSE = 2000.0, 4000.0  # Hz: every bin counts below the first, every second up to the other, and every fourth above
QUIETEST = 1e-16  # mean square: what is quieter is digital silence, and stays quiet


def mel_filters() -> np.ndarray:
    """Triangular filters, float64 (MELS, POINTS // 2 + 1), evenly spaced in mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy, 1987).

    High ones are wide: there every second or fourth bin stands for its neighbours, which are 0, and need not be computed.
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
    """Cosines and sines of a transform of POINTS in its first so many samples, float64 (samples, 2 * bins)."""
    angle = 2 * np.pi * np.outer(np.arange(samples), bins) / POINTS
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


class LogMel(nn.Module):
    """Clips (N,16000), of any level, → log-mel energies (N,40,79), about -1 to 2: as loud as if all clips had the same mean square.

    The Fourier transform is decimated in frequency (Gentleman and Sande, 1966): to the even bins, what is half a frame apart adds up, and
    to the odd ones its difference; to every fourth again what is a quarter apart. So most products are of a half or a quarter of a frame.
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
        """Spectrum, mel, level, logarithm."""
        blocks = audio.unflatten(1, (-1, HOP))
        blocks = blocks - _mean(blocks)
        early, late = blocks[:, :-1] * self.early, blocks[:, 1:] * self.late  # the halves of each frame
        even = early + late
        first, last = even[..., : HOP // 2], even[..., HOP // 2 :]
        power = self._energy("odd", early - late) + self._energy("second", first - last) + self._energy("fourth", first + last)
        level = _mean(blocks.square()) + QUIETEST
        return (power / level + FLOOR).log().transpose(1, 2) / 4

    def _energy(self, bins: str, samples: Tensor) -> Tensor:
        """What the filters hear in some bins."""
        return (samples @ self.get_buffer(f"{bins}_waves")).square() @ self.get_buffer(f"{bins}_filters")


def _mean(blocks: Tensor) -> Tensor:
    """Of clips in blocks (N,B,S): (N,1,1). ONNX Runtime adds one number after the other: 16,000 in one go cost it two digits."""
    return blocks.mean(2, keepdim=True).mean(1, keepdim=True)
