"""A framework: softmax regression on the pixels, trained with NumPy, as another trainer of `lenet5`.

    windtunnel run lenet5 --param frameworks=linear

It keeps the trainer contract (`train_server/README.md`): the spec, the order of the samples and the learning rates are those of the run. It
is not LeNet-5, so it starts from zeros and not from the run's weights, and a run that also trains another framework gets no certificate.
"""

from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from train_server.lenet5.trainer import Conditions, Model, Tensors, Trainer, main
from windtunnel.model import Framework, python_module

# Torch exports the model only. It is imported where it is used, because the command line imports this file.
LINEAR = Framework(
    "linear",
    python_module("windtunnel_examples.linear"),
    "model.pt",
    "torchserve",
    ("numpy", "torch"),
    colour="#009E73",
    marker="D",
    default=False,
)


class Linear(Trainer):
    """784 pixels → 10 logits: 7,850 parameters, trained with Adam."""

    framework = LINEAR

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        self.spec = conditions.spec
        threadpool_limits(self.spec.threads)
        self.pixels, self.labels = self._normalised(conditions.images).astype(dtype), conditions.labels
        self.weights = {"weight": np.zeros((self.pixels.shape[1], 10), dtype), "bias": np.zeros(10, dtype)}
        self.moments = {name: (np.zeros_like(weight), np.zeros_like(weight)) for name, weight in self.weights.items()}
        self.steps = 0

    def train_epoch(self, order: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take the steps of an epoch; see `Trainer.train_epoch`."""
        losses = np.empty(len(order), self.pixels.dtype)
        for step, (batch, rate) in enumerate(zip(order, learning_rate, strict=True)):
            logits, gradients = self._gradients(batch)
            losses[step] = -np.log(_softmax(logits)[np.arange(len(batch)), self.labels[batch]]).mean()
            self._adam(gradients, rate)
        return losses

    def probe(self, batch: np.ndarray) -> Tensors:
        """Compute logits and gradients without a step; see `Trainer.probe`."""
        logits, gradients = self._gradients(batch)
        return {"logits": logits, **{f"gradient.{name}": gradient for name, gradient in gradients.items()}}

    def predict(self, images: np.ndarray) -> Tensors:
        """Classify images; see `Trainer.predict`."""
        logits = self._logits(self._normalised(images))
        return {"probabilities": _softmax(logits), "logits": logits}

    def save(self, path: Path) -> None:
        """Write the model as TorchScript."""
        import torch

        weight, bias = (torch.from_numpy(self.weights[name]) for name in ("weight", "bias"))
        mean, std = self.spec.mean, self.spec.std

        def served(image: torch.Tensor) -> dict[str, torch.Tensor]:
            """Pixels 0..255, float32 (N,28,28,1) → `probabilities` and `logits`, float32 (N,10)."""
            logits = ((image.flatten(1) / 255 - mean) / std) @ weight + bias
            return {"probabilities": logits.softmax(1), "logits": logits}

        torch.jit.trace(served, torch.zeros(2, 28, 28, 1), strict=False).save(str(path))

    @staticmethod
    def load(path: Path) -> dict[Path, Model]:
        """Load the TorchScript model."""
        import torch

        served = torch.jit.load(path)
        return {path: lambda image: {name: output.numpy() for name, output in served(torch.from_numpy(image)).items()}}

    def _normalised(self, images: np.ndarray) -> np.ndarray:
        """Return the pixels of `images`, uint8 (N,28,28), as float32 (N,784)."""
        return (images.reshape(len(images), -1).astype(np.float32) / 255 - self.spec.mean) / self.spec.std

    def _logits(self, pixels: np.ndarray) -> np.ndarray:
        return pixels @ self.weights["weight"] + self.weights["bias"]

    def _gradients(self, batch: np.ndarray) -> tuple[np.ndarray, Tensors]:
        """Return the logits of the training samples `batch`, and the gradients of their mean cross-entropy."""
        pixels = self.pixels[batch]
        logits = self._logits(pixels)
        difference = _softmax(logits)
        difference[np.arange(len(batch)), self.labels[batch]] -= 1
        difference /= len(batch)
        return logits, {"weight": pixels.T @ difference, "bias": difference.sum(axis=0)}

    def _adam(self, gradients: Tensors, rate: float) -> None:
        """Take the contract's step of Adam."""
        spec = self.spec
        self.steps += 1
        size = rate / (1 - spec.beta1**self.steps)
        correction = (1 - spec.beta2**self.steps) ** 0.5
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first += (1 - spec.beta1) * (gradient - first)
            second += (1 - spec.beta2) * (gradient**2 - second)
            self.weights[name] -= size * first / (np.sqrt(second) / correction + spec.epsilon)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main(Linear)
