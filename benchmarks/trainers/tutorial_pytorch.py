"""Train LeNet-5 on MNIST as PyTorch's tutorials do; `make bench-train` compares the trainer with this.

    python -m benchmarks.trainers.tutorial_pytorch --data DIR --batch-size 64 --threads 2 --samples 60000

A `Dataset` that decodes and normalises one image at a time, as torchvision's `MNIST` with `ToTensor` and `Normalize` does,
a shuffling `DataLoader`, a plain `nn.Module` and Adam. The last line printed is JSON.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from windtunnel.data.idx import read_idx


class MNIST(Dataset):
    """Normalised images (1,28,28) and their labels."""

    def __init__(self, data: Path, prefix: str, samples: int | None = None) -> None:
        self.images = torch.from_numpy(read_idx(data / f"{prefix}-images-idx3-ubyte")[0])[:samples]
        self.labels = torch.from_numpy(read_idx(data / f"{prefix}-labels-idx1-ubyte")[0].astype(np.int64))[:samples]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Do what torchvision's `MNIST.__getitem__`, `ToTensor` and `Normalize((0.1307,), (0.3081,))` do."""
        image = Image.fromarray(self.images[index].numpy(), mode="L")
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(image.height, image.width, 1)
        x = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, std = torch.tensor((0.1307,)), torch.tensor((0.3081,))
        return x.clone().sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)), int(self.labels[index])


class LeNet5(nn.Module):
    """Images (N,1,28,28) → logits (N,10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer by layer."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(F.relu(self.conv3(x)), 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def main() -> None:
    """Train, then print the speed and the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--batch-size", type=int, required=True, metavar="N")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--samples", type=int, required=True, metavar="N")
    parser.add_argument("--epochs", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    train_loader = DataLoader(MNIST(arguments.data, "train", arguments.samples), arguments.batch_size, shuffle=True)
    test_loader = DataLoader(MNIST(arguments.data, "t10k"), 1000)
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    start = time.perf_counter()
    for _ in range(arguments.epochs):
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - start

    with torch.no_grad():
        correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test_loader)
    accuracy = correct / len(test_loader.dataset)  # type: ignore[arg-type]
    rate = arguments.epochs * arguments.samples / seconds
    print(json.dumps({"seconds": seconds, "samples_per_second": rate, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
