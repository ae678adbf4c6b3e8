"""The protocol floor in TorchScript: served by the handler that serves models, which so is part of the floor."""

from pathlib import Path

import torch

from serving.torchserve.archive import MODEL


class Floor(torch.nn.Module):
    """Images, float32 (N,28,28,1) → a multiple of their first pixels as logits and as probabilities, (N,classes)."""

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__()
        self.classes = classes
        self.scale = scale

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Multiply."""
        pixels = image[:, 0, : self.classes, 0] * self.scale
        return {"logits": pixels, "probabilities": pixels}


def write_floor(directory: Path, classes: int, scale: float) -> None:
    """Write it into a version's directory."""
    torch.jit.script(Floor(classes, scale)).save(str(directory / MODEL))
