"""Models for TorchScript that keep less than the contract; each is named for what is wrong with it."""

import torch
from torch import Tensor, nn


class weights_nan(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits = image.flatten(1)[:, :10] * float("nan")
        return {"logits": logits, "probabilities": logits}


class wrong_signature(nn.Module):
    def forward(self, image: Tensor, other: Tensor) -> dict[str, Tensor]:
        return {"logits": image.flatten(1)[:, :10], "probabilities": other}


class wrong_outputs(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"scores": image.flatten(1)[:, :10]}


class wrong_shape(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits = image.flatten(1)[:, :9]
        return {"logits": logits, "probabilities": logits}


class raises(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        if image.numel() > 0:
            raise RuntimeError("out of order")
        return {"logits": image}


class sleeps(nn.Module):
    def __init__(self, rounds: int):
        super().__init__()
        self.rounds = rounds

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        square = torch.ones(256, 256)
        for _ in range(self.rounds):
            square = torch.matmul(square, square).clamp(0.0, 1.0)
        logits = image.flatten(1)[:, :10] + square[0, :10]
        return {"logits": logits, "probabilities": logits}


class turns(nn.Module):
    """Right for a number of calls, then wrong."""

    def __init__(self, good: nn.Module, calls: int):
        super().__init__()
        self.good = good
        self.left = calls

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.left -= 1
        answer: dict[str, Tensor] = self.good(image)
        if self.left < 0:
            return {"logits": -answer["logits"], "probabilities": answer["probabilities"]}
        return answer
