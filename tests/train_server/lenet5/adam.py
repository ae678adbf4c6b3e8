"""Adam in float64, from the contract: what both frameworks' steps are compared with."""

import numpy as np

from train_server.lenet5.trainer import Conditions, Trainer


def follow(trainer: Trainer, conditions: Conditions, steps: int) -> dict[str, np.ndarray]:
    """Let `trainer` take `steps` steps; return the weights that the formula makes of its own gradients."""
    spec = conditions.spec
    weights = {name: weight.astype(np.float64) for name, weight in conditions.weights.items()}
    m = dict.fromkeys(weights, 0.0)
    v = dict.fromkeys(weights, 0.0)
    for t in range(1, steps + 1):
        batch, rate = conditions.order[0, t - 1], conditions.learning_rate[0, t - 1]
        probe = trainer.probe(batch)
        trainer.train_epoch(batch[None], np.array([rate]))
        for name in weights:
            g = probe[f"gradient.{name}"].astype(np.float64)
            m[name] = spec.beta1 * m[name] + (1 - spec.beta1) * g
            v[name] = spec.beta2 * v[name] + (1 - spec.beta2) * g**2
            denominator = np.sqrt(v[name]) / np.sqrt(1 - spec.beta2**t) + spec.epsilon
            weights[name] = weights[name] - rate / (1 - spec.beta1**t) * m[name] / denominator
    return weights
