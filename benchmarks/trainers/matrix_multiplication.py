"""Measure how fast this machine multiplies float32 matrices, as a reference for the trainers' speed.

python -m benchmarks.trainers.matrix_multiplication --threads 2
"""

import json
import time
from typing import Annotated

import torch
import typer

from windtunnel.platform.program import run_program

SIZE, REPEATS = 2048, 8


def main(threads: Annotated[int, typer.Option(help="Number of threads.")]) -> None:
    """Print the floating-point operations per second of the fastest of several 2048×2048 products."""
    torch.set_num_threads(threads)
    a, b = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"flops": 2 * SIZE**3 / min(seconds)}))


if __name__ == "__main__":
    run_program(main)
