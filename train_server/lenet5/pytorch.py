"""LeNet-5 in PyTorch: `python -m train_server.lenet5.pytorch --help`. The contract is `train_server/README.md`."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_server.lenet5.model import LENET5
from train_server.lenet5.trainer import Conditions, Model, Tensors, Trainer, main

# TorchScript is deprecated in favour of torch.export, but TorchServe and C++ load TorchScript.
warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)


class LeNet5(nn.Module):
    """Normalised images (N,1,32,32) → logits (N,10). 61,706 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.out = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        x = F.relu(F.max_pool2d(self.c1(x), 2))  # ReLU commutes with max-pooling: after pooling it has a quarter of the work
        x = F.relu(F.max_pool2d(self.c3(x), 2))
        # C5's kernel covers all of S4, so its convolution is one matrix product.
        x = F.relu(F.linear(x.flatten(1), self.c5.weight.flatten(1), self.c5.bias))
        x = F.relu(self.f6(x))
        return self.out(x)


class Served(nn.Module):
    """The exported model: pixels 0..255, float32 (N,28,28,1) → `probabilities` and `logits` (N,10)."""

    def __init__(self, lenet5: LeNet5, mean: float, std: float) -> None:
        super().__init__()
        self.lenet5 = lenet5
        self.mean = mean
        self.std = std

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Normalise, pad, classify."""
        x = (image.permute(0, 3, 1, 2) / 255 - self.mean) / self.std
        logits = self.lenet5(F.pad(x, [2, 2, 2, 2]))
        return {"probabilities": logits.softmax(1), "logits": logits}


class PyTorch(Trainer):
    """The trainer in eager PyTorch, with a fused Adam."""

    framework = LENET5.framework("pytorch")

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        spec = conditions.spec
        torch.set_num_threads(spec.threads)
        self.model = LeNet5().to(getattr(torch, dtype))
        self.model.load_state_dict({name: torch.from_numpy(weight) for name, weight in conditions.weights.items()})
        for convolution in (self.model.c1, self.model.c3):
            convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this overload
        self.served = Served(self.model, spec.mean, spec.std)
        self.optimizer = torch.optim.Adam(self.model.parameters(), betas=(spec.beta1, spec.beta2), eps=spec.epsilon, fused=True)
        # The whole data set is one tensor, normalised and padded once.
        images = torch.from_numpy(conditions.images).to(getattr(torch, dtype)).unsqueeze(1)
        self.images = F.pad((images / 255 - spec.mean) / spec.std, [2, 2, 2, 2])
        self.labels = torch.from_numpy(conditions.labels).long()

    def train_epoch(self, order: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take the steps of an epoch; see `Trainer.train_epoch`."""
        losses = torch.empty(len(order), dtype=self.images.dtype)
        for step, (batch, rate) in enumerate(zip(torch.from_numpy(order), learning_rate.tolist(), strict=True)):
            loss = F.cross_entropy(self.model(self.images[batch]), self.labels[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.step()
            losses[step] = loss.detach()
        return losses.numpy()

    def probe(self, batch: np.ndarray) -> Tensors:
        """Compute logits and gradients without a step; see `Trainer.probe`."""
        indices = torch.from_numpy(batch)
        logits = self.model(self.images[indices])
        names, weights = zip(*self.model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(F.cross_entropy(logits, self.labels[indices]), weights)
        return {
            "logits": logits.detach().numpy(),
            **{f"gradient.{name}": gradient.contiguous().numpy() for name, gradient in zip(names, gradients, strict=True)},
        }

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> Tensors:
        """Classify images in batches of 1000; see `Trainer.predict`."""
        batches = torch.from_numpy(images).float().unsqueeze(3).split(1000)
        outputs = [self.served(batch) for batch in batches]
        return {name: torch.cat([output[name] for output in outputs]).numpy() for name in ("probabilities", "logits")}

    def save(self, path: Path) -> None:
        """Write the model as TorchScript."""
        torch.jit.script(self.served.eval()).save(path)

    @staticmethod
    def load(path: Path) -> dict[Path, Model]:
        """Load the TorchScript model."""
        served = torch.jit.load(path)
        return {path: lambda image: {name: output.numpy(force=True) for name, output in served(torch.from_numpy(image)).items()}}


if __name__ == "__main__":
    main(PyTorch)
