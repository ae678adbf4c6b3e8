"""What a handler after TorchServe's documentation looks like: the other side of the benchmark, and used for nothing else.

TorchServe's own image handler needs torchvision; this is its approach, a transform an image, on TorchServe's `BaseHandler`.
"""

import io

import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class StockHandler(BaseHandler):
    """A PNG in, the ten probabilities out."""

    def preprocess(self, data: list[dict[str, bytes]]) -> torch.Tensor:
        """Decode one after the other."""
        bodies = [row.get("data") or row.get("body") for row in data]
        pictures = [Image.open(io.BytesIO(body)).convert("L").resize((28, 28)) for body in bodies if body]
        return torch.stack([torch.from_numpy(np.array(picture, np.float32)).unsqueeze(2) for picture in pictures])

    def postprocess(self, data: dict[str, torch.Tensor]) -> list[list[float]]:
        """A list an image."""
        return data["probabilities"].tolist()
