"""Train LeNet-5 on MNIST as Keras' tutorials do; `make bench-train` compares the trainer with this.

    python -m benchmarks.trainers.tutorial_tensorflow --data DIR --batch-size 64 --threads 2 --samples 60000

A `Sequential`, `compile`, and `fit` on arrays with its default settings. The last line printed is JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from windtunnel.data.idx import read_idx

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf
from keras import layers


def load(data: Path, prefix: str, samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images in 0..1, float32 (N,28,28,1), and labels (N)."""
    images = read_idx(data / f"{prefix}-images-idx3-ubyte")[0][:samples]
    labels = read_idx(data / f"{prefix}-labels-idx1-ubyte")[0][:samples]
    return np.expand_dims(images.astype("float32") / 255, -1), labels


def main() -> None:
    """Train, then print the speed and the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--batch-size", type=int, required=True, metavar="N")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--samples", type=int, required=True, metavar="N")
    parser.add_argument("--epochs", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)

    x_train, y_train = load(arguments.data, "train", arguments.samples)
    x_test, y_test = load(arguments.data, "t10k")
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(120, 5, activation="relu"),
        layers.Flatten(),
        layers.Dense(84, activation="relu"),
        layers.Dense(10),
    ])  # fmt: skip
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    # The trainer builds its graph before its clock starts. So that Keras does too, `fit` one batch here, then restore weights and Adam's
    # state.
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    model.fit(x_train[: arguments.batch_size], y_train[: arguments.batch_size], batch_size=arguments.batch_size, verbose=0)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)

    start = time.perf_counter()
    model.fit(x_train, y_train, batch_size=arguments.batch_size, epochs=arguments.epochs)
    seconds = time.perf_counter() - start

    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    rate = arguments.epochs * arguments.samples / seconds
    print(json.dumps({"seconds": seconds, "samples_per_second": rate, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
