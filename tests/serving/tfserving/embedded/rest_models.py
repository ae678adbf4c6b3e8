"""Writes the models that REST is tested with, as a program of its own: it imports TensorFlow. In: a directory."""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

FLOATS = tf.TensorSpec([None], tf.float32, "x")
EXAMPLES = tf.TensorSpec([None], tf.string, "inputs")


class HalfPlusTwo(tf.Module):
    """TensorFlow Serving's own test model: y = x / 2 + more."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = tf.Variable(more)

    def y(self, serialized: tf.Tensor) -> tf.Tensor:
        return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"] / 2 + self.more

    @tf.function(input_signature=[FLOATS])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + self.more}

    @tf.function(input_signature=[EXAMPLES])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": self.y(inputs)}

    @tf.function(input_signature=[EXAMPLES])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.y(inputs)}


class Mirror(tf.Module):
    """Gives back what it is given."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], dtype, name)
            for name, dtype in (("decimal", tf.float32), ("whole", tf.int64), ("truth", tf.bool), ("text", tf.string), ("raw", tf.string))
        ]
    )
    def mirror(self, decimal: tf.Tensor, whole: tf.Tensor, truth: tf.Tensor, text: tf.Tensor, raw: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {"the_decimal": decimal, "the_whole": whole, "the_truth": truth, "the_text": text, "the_raw_bytes": raw}
        return {name: tf.identity(value) for name, value in given.items()}


class Slow(tf.Module):
    """Computes for a while: x² matrix products of 300 rows."""

    @tf.function(input_signature=[FLOATS])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        matrix = tf.eye(300)
        for _ in tf.range(tf.cast(tf.reduce_sum(x), tf.int32)):
            matrix = tf.linalg.matmul(matrix, matrix)
        return {"y": matrix[0, 0] * x}


def save(module: tf.Module, path: Path, signatures: dict[str, object], methods: dict[str, str]) -> None:
    """Save a model, with the methods that TensorFlow 2 does not write and TensorFlow Serving asks for."""
    tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name, method in methods.items():
        saved.meta_graphs[0].signature_def[name].method_name = f"tensorflow/serving/{method}"
    file.write_bytes(saved.SerializeToString())


directory = Path(sys.argv[1])
for version in (1, 2):
    half = HalfPlusTwo(float(version + 1))
    names = {"serving_default": half.predict, "classify_x_to_y": half.classify, "regress_x_to_y": half.regress}
    save(half, directory / "half_plus_two" / str(version), names, {"classify_x_to_y": "classify", "regress_x_to_y": "regress"})
save(mirror := Mirror(), directory / "mirror" / "1", {"serving_default": mirror.mirror}, {})
save(slow := Slow(), directory / "slow" / "1", {"serving_default": slow.predict}, {})
