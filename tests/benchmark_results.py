"""Results of benchmarks for tests, in the form that `serving.benchmark.benchmark` writes, with made-up figures."""

import itertools
import statistics
from typing import Any

MODELS = {"lenet5-libtorch": "torchserve", "lenet5-pytorch": "torchserve", "lenet5-tensorflow": "tfserving"}
RATES = {("torchserve", "rest"): 700, ("torchserve", "grpc"): 900, ("tfserving", "rest"): 2500, ("tfserving", "grpc"): 3000}
CELLS = ((1, 1), (10, 1), (50, 1), (1, 8), (1, 32))
JITTER = (1, 0.94, 1.05, 0.98, 1.02)


def row(model: str, protocol: str, concurrency: int, batch: int, loop: str = "closed") -> dict[str, Any]:
    """A row with five rounds of figures."""
    rate = RATES[MODELS[model], protocol] * concurrency**0.3 / batch**0.5
    limit, floor = 5000 * batch**0.3, rate * 1.4
    rates = [rate * jitter for jitter in JITTER]
    middle = concurrency / rate
    return {
        "model": model,
        "version": 3,
        "framework": model.removeprefix("lenet5-"),
        "server": MODELS[model],
        "protocol": protocol,
        "loop": loop,
        "concurrency": concurrency,
        "batch": batch,
        "offered": rate / 2 if loop == "open" else None,
        "requests_per_second": rates,
        "p50": [middle / jitter for jitter in JITTER],
        "p99": [3 * middle / jitter for jitter in JITTER],
        "limit": [limit] * 5 if loop == "closed" else [],
        "floor": [floor] * 5 if loop == "closed" else [],
        "share_of_limit": statistics.median(rates) * batch / limit if loop == "closed" else None,
        "share_of_floor": statistics.median(rates) / floor if loop == "closed" else None,
        "invalid": None,
    }


def invalidate(row: dict[str, Any], reason: str | None) -> None:
    """Take a row's figures from it; without a reason it is one that was not measured."""
    row |= {name: [] for name in ("requests_per_second", "p50", "p99", "limit", "floor")}
    row |= {"share_of_limit": None, "share_of_floor": None, "invalid": reason}


def benchmark() -> dict[str, Any]:
    """A whole result: the cells of a training run, an open loop, and a comparison with a champion over each protocol."""
    rows = [row(model, protocol, *cell) for cell in CELLS for protocol in ("rest", "grpc") for model in MODELS]
    rows += [row(model, protocol, 10, 1, "open") for protocol in ("rest", "grpc") for model in MODELS]
    comparisons = [
        {
            "model": model,
            "version": 3,
            "against": 2,
            "server": server,
            "protocol": protocol,
            "concurrency": 10,
            "batch": 1,
            "ratio": 1.004,
            "low": 0.981,
            "high": 1.028,
            "confidence": 0.99,
            "verdict": "no difference",
            "rounds": 50,
            "seconds": 0.1,
            "invalid": None,
        }
        for (model, server), protocol in itertools.product(MODELS.items(), ("rest", "grpc"))
    ]
    machine = {
        "cpu": "a CPU",
        "cores": 2,
        "load_before": 3.5,
        "threads": 1,
        "generator_cores": [1],
        "server_cores": {"torchserve": [0, 1]},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
    }
    models = {model: {"framework": model.removeprefix("lenet5-"), "version": 3, "server": server} for model, server in MODELS.items()}
    head = {"commit": "c0ffee", "started": "2026-11-23T10:00:00+00:00", "partial": False, "rounds": 5, "seconds": 0.3}
    return {**head, "machine": machine, "models": models, "rows": rows, "comparisons": comparisons}
