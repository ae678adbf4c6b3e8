"""The networks, which compute the logits of the words from clips."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_server.speech_commands.features import LogMel


def _layer(inputs: int, outputs: int, kernel: int | tuple[int, int], **options: int | tuple[int, int]) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()]  # type: ignore[arg-type]


class Residual(nn.Module):
    """A depthwise separable convolution with a residual connection (He et al., arXiv 1512.03385)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        depthwise, pointwise = _layer(width, width, 3, padding=1, groups=width), _layer(width, width, 1)[:-1]
        self.layers = nn.Sequential(*depthwise, *pointwise)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return F.relu(features + self.layers(features))


class DSResNet(nn.Sequential):
    """Depthwise separable convolutions with residual connections: log-mel features (N,40,79) → logits (N,K+1), the last for no command.

    Based on DS-CNN of Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers" (arXiv 1711.07128). Most of the work is on maps of
    5 by 20, where a channel is cheap.
    """

    def __init__(self, classes: int) -> None:
        width = 48
        layers = _layer(1, width, (7, 5), stride=(4, 2), padding=(3, 2))
        for wider, stride, blocks in ((96, (2, 2), 2), (128, (2, 1), 3)):
            layers += [*_layer(width, width, 3, stride=stride, padding=1, groups=width), *_layer(width, wider, 1)]
            layers += [Residual(wider) for _ in range(blocks)]
            width = wider
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, classes + 1))
        super().__init__(nn.Unflatten(1, (1, -1)), *layers, *head)


def resizing(inputs: int, outputs: int) -> Tensor:
    """Return the matrix, float32 (outputs, inputs), that resizes by linear interpolation between the centres of pixels."""
    place = (torch.arange(outputs) + 0.5) * inputs / outputs - 0.5
    return (1 - (place[:, None] - torch.arange(inputs)).abs()).clamp(min=0)


class Spectrogram(nn.Module):
    """Clips (N,16000) → magnitudes of their short-time Fourier transform, resized to (N,1,32,32)."""

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
        """Transform windows of 255 samples every 128 samples, padded to 256."""
        real, imaginary = F.conv1d(audio.unsqueeze(1), self.kernels, stride=128).square().chunk(2, dim=1)
        magnitude = (real + imaginary + 1e-12).sqrt()
        return (self.columns @ magnitude @ self.rows.T).transpose(1, 2).unsqueeze(1)


class Tutorial(nn.Sequential):
    """The network of TensorFlow's tutorial: spectrograms (N,1,32,32) → logits (N,K).

    https://www.tensorflow.org/tutorials/audio/simple_audio
    """

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.BatchNorm2d(1, affine=False),  # the tutorial normalises by the training set's mean and variance
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
            *(nn.Linear(64 * 14 * 14, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, classes)),
        )


NETWORKS = {"ds_resnet": (LogMel, DSResNet), "tutorial": (Spectrogram, Tutorial)}
"""The features and the classifier of each network; the classifier's argument is the number of words."""


class Served(nn.Module):
    """The exported model: `audio`, float32 (N,16000) in -1..1 → `logits` and `probabilities` of the K words (N,K).

    The probabilities are calibrated (`train_server.speech_commands.calibration`): they are the softmax of the classifier's logits times
    `scale`; `offset` is added to the logit of no command, if the classifier has one. The probability of no command is 1 minus the sum of a
    row.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, features: nn.Module, classifier: nn.Module, words: int) -> None:
        super().__init__()
        self.features, self.classifier, self.words = features, classifier, words
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features, then logits and probabilities."""
        logits = self.classifier(self.features(audio))
        return logits[:, : self.words], self.probabilities(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the probabilities of the words (N,K) from all logits of the classifier."""
        words, rest = logits[:, : self.words] * self.scale, logits[:, self.words :] * self.scale + self.offset
        return torch.softmax(torch.cat([words, rest], 1), 1)[:, : self.words]
