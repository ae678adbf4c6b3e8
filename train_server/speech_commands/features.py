"""Log-mel features as layers, so that they are part of what is exported: what is heard in training is heard in serving."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windtunnel.clips import SAMPLE_RATE

WINDOW, HOP, POINTS = 320, 200, 400  # 20 ms every 12.5 ms, and the length of its Fourier transform
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


def fourier_kernels(bins: np.ndarray, window: np.ndarray, points: int) -> Tensor:
    """Real and imaginary parts of a windowed Fourier transform, as kernels of a convolution: float32 (2 len(bins), 1, len(window)).

    A convolution is slower than a fast Fourier transform, but ONNX Runtime is faster with it.
    """
    angle = 2 * np.pi * np.outer(bins, np.arange(len(window))) / points
    return torch.tensor(np.concatenate([np.cos(angle), np.sin(angle)]) * window, dtype=torch.float32).unsqueeze(1)


class LogMel(nn.Module):
    """Clips (N,16000), of any level, → log-mel energies (N,40,79), about -1 to 2: as loud as if all clips had the same mean square."""

    kernels: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters()
        used = np.flatnonzero(filters.any(axis=0))
        window = np.hanning(WINDOW + 1)[:-1]
        self.register_buffer("kernels", fourier_kernels(used, window, POINTS), persistent=False)
        self.register_buffer("filters", torch.tensor(filters[:, used], dtype=torch.float32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Level, spectrum, mel, logarithm."""
        audio = audio - audio.mean(1, keepdim=True)
        audio = audio / (audio.square().mean(1, keepdim=True).sqrt() + QUIETEST)
        real, imaginary = F.conv1d(audio.unsqueeze(1), self.kernels, stride=HOP).square().chunk(2, dim=1)
        return (self.filters @ (real + imaginary) + FLOOR).log() / 4
