"""Versions that must never be promoted: copies of good ones, spoilt in ways of which their manifests say nothing."""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, read_manifest

SLEEP_SECONDS = 5.0


def variant(good: Path, bad: Path, spoil: Callable[[Path], None] = lambda directory: None) -> Path:
    """Copy a version, spoil it, and write a manifest that agrees. Each is another version, even where nothing was spoilt."""
    shutil.copytree(good, bad)
    spoil(bad)
    manifest = read_manifest(good)
    files = {str(file.relative_to(bad)): sha256(file) for file in bad.rglob("*") if file.is_file() and file.name != MANIFEST}
    write_json(bad / MANIFEST, manifest.model_copy(update={"files": files, "created": datetime.now(UTC)}).model_dump(mode="json"))
    return bad


def truncated(name: str) -> Callable[[Path], None]:
    """A file that ends in its middle."""

    def spoil(bad: Path) -> None:
        content = (bad / name).read_bytes()
        (bad / name).write_bytes(content[: len(content) // 2])

    return spoil


def bytes_changed(name: str) -> Callable[[Path], None]:
    """A file with eight bytes in its middle inverted: a whole weight at least."""

    def spoil(bad: Path) -> None:
        content = bytearray((bad / name).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
        (bad / name).write_bytes(content)

    return spoil


def replaced(name: str, other: Path) -> Callable[[Path], None]:
    """A file, or a directory, of another version, which gives other labels."""

    def spoil(bad: Path) -> None:
        if (other / name).is_dir():
            shutil.rmtree(bad / name)
            shutil.copytree(other / name, bad / name)
        else:
            shutil.copyfile(other / name, bad / name)

    return spoil


def torch_model(name: str) -> Callable[[Path], None]:
    """A TorchScript model with another `forward`."""

    def spoil(bad: Path) -> None:
        import torch

        from tests.serving import torch_models

        torch.set_num_threads(1)
        if name == "sleeps":
            start = time.perf_counter()
            torch_models.sleeps(100)(torch.zeros(1, 784))
            model = torch_models.sleeps(int(100 * SLEEP_SECONDS / (time.perf_counter() - start)))
        else:
            model = getattr(torch_models, name)()
        torch.jit.script(model).save(str(bad / "model.pt"))

    return spoil


def tensorflow_model(name: str) -> Callable[[Path], None]:
    """A SavedModel with another signature, and no model.tflite."""

    def spoil(bad: Path) -> None:
        import tensorflow as tf

        images = tf.TensorSpec([None, 28, 28, 1], name="pixels" if name == "wrong_signature" else "image")

        def ten(image, count=10):
            return tf.reshape(image, [-1, 784])[:, :count]

        def sleep(image):
            start = time.perf_counter()
            square = tf.ones([256, 256])
            for _ in range(50):
                square = tf.clip_by_value(square @ square, 0.0, 1.0)
            rounds = int(50 * SLEEP_SECONDS / (time.perf_counter() - start))
            step = lambda index, square: (index + 1, tf.clip_by_value(square @ square, 0.0, 1.0))  # noqa: E731
            _, square = tf.while_loop(lambda index, _: index < rounds, step, [0, tf.ones([256, 256]) * image[0, 0, 0, 0]])
            return ten(image) + square[0, :10]

        def fail(image):
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_sum(image) < -1.0, ["out of order"])]):
                return ten(image)

        models = {
            "weights_nan": lambda image: ten(image) * float("nan"),
            "wrong_signature": ten,
            "wrong_outputs": ten,
            "wrong_shape": lambda image: ten(image, 9),
            "raises": fail,
            "sleeps": sleep,
        }
        outputs = ("scores",) if name == "wrong_outputs" else ("logits", "probabilities")
        module = tf.Module()
        module.serve = tf.function(lambda image: dict.fromkeys(outputs, models[name](image)), input_signature=[images])
        shutil.rmtree(bad / "saved_model")
        tf.saved_model.save(module, str(bad / "saved_model"), signatures=module.serve)

    return spoil


def without_lite(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same of a version without model.tflite, so that the server needs the SavedModel itself."""

    def both(bad: Path) -> None:
        (bad / "saved_model/model.tflite").unlink()
        spoil(bad)

    return both
