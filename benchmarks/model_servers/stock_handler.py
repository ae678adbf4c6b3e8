"""A handler written as TorchServe's documentation suggests, for the benchmark to compare with. Nothing else uses it.

TorchServe's own image handler needs torchvision. This one does the same, one transform per image, with TorchServe's `BaseHandler`.
"""

import io

import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class StockHandler(BaseHandler):
    """Take a PNG, return the ten probabilities."""

    def preprocess(self, data: list[dict[str, bytes]]) -> torch.Tensor:
        """Decode the images one by one; returns a batch."""
        bodies = [row.get("data") or row.get("body") for row in data]
        pictures = [Image.open(io.BytesIO(body)).convert("L").resize((28, 28)) for body in bodies if body]
        return torch.stack([torch.from_numpy(np.array(picture, np.float32)).unsqueeze(2) for picture in pictures])

    def postprocess(self, data: dict[str, torch.Tensor]) -> list[list[float]]:
        """Return a list of probabilities per image."""
        return data["probabilities"].tolist()
