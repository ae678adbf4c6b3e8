"""The networks: clips in, logits of the words out."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_server.speech_commands.features import LogMel


def _layer(inputs: int, outputs: int, kernel: int | tuple[int, int], **options: int | tuple[int, int]) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()]  # type: ignore[arg-type]


class DSCNN(nn.Sequential):
    """Log-mel features (N,40,79) → logits (N,K), by depthwise separable convolutions.

    After DS-CNN of Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers" (arXiv 1711.07128).
    """

    def __init__(self, classes: int, width: int = 96, blocks: int = 5) -> None:
        layers = _layer(1, width, (9, 5), stride=2, padding=(4, 2))
        for block in range(blocks):
            layers += _layer(width, width, 3, stride=1 if block else 2, padding=1, groups=width)
            layers += _layer(width, width, 1)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, classes))
        super().__init__(nn.Unflatten(1, (1, -1)), *layers, *head)


def resizing(inputs: int, outputs: int) -> Tensor:
    """The matrix that resizes by linear interpolation between the middles of pixels: float32 (outputs, inputs)."""
    place = (torch.arange(outputs) + 0.5) * inputs / outputs - 0.5
    return (1 - (place[:, None] - torch.arange(inputs)).abs()).clamp(min=0)


class Spectrogram(nn.Module):
    """Clips (N,16000) → magnitudes of their short-time Fourier transform, resized: (N,1,32,32)."""

    kernels: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        angle = 2 * np.pi * np.outer(np.arange(129), np.arange(255)) / 256
        waves = np.concatenate([np.cos(angle), np.sin(angle)]) * np.hanning(256)[:-1]
        self.register_buffer("kernels", torch.tensor(waves[:, None], dtype=torch.float32), persistent=False)
        self.register_buffer("rows", resizing(124, 32), persistent=False)
        self.register_buffer("columns", resizing(129, 32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """255 samples every 128, padded to 256."""
        real, imaginary = F.conv1d(audio.unsqueeze(1), self.kernels, stride=128).square().chunk(2, dim=1)
        magnitude = (real + imaginary + 1e-12).sqrt()
        return (self.columns @ magnitude @ self.rows.T).transpose(1, 2).unsqueeze(1)


class Tutorial(nn.Sequential):
    """Spectrograms (N,1,32,32) → logits (N,K): the network of TensorFlow's tutorial.

    https://www.tensorflow.org/tutorials/audio/simple_audio
    """

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.BatchNorm2d(1, affine=False),  # the tutorial normalises by the training set's mean and variance
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
            *(nn.Linear(64 * 14 * 14, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, classes)),
        )


NETWORKS = {"ds_cnn": (LogMel, DSCNN), "tutorial": (Spectrogram, Tutorial)}
"""Features and classifier of each network; the classifier is made for K words."""


class Served(nn.Module):
    """What is exported. `audio`, float32 (N,16000) in -1..1 → `logits` and `probabilities` (N,K)."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Features, classes."""
        logits = self.classifier(self.features(audio))
        return logits, torch.softmax(logits, 1)
