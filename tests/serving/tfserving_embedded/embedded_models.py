"""Writes the models that the embedded server is tested with, as a program of its own: it imports TensorFlow. In: a directory."""

import shutil
import sys
from pathlib import Path

import tensorflow as tf

FLOATS = tf.TensorSpec([None], tf.float32, "x")
EXAMPLES = tf.TensorSpec([None], tf.string, "inputs")
X = {"x": tf.io.FixedLenFeature([1], tf.float32)}
ROWS = tf.TensorSpec([None, 2], tf.float32, "x")


def half_plus(more: float, directory: Path) -> None:
    """TensorFlow Serving's own test model, written as theirs is, with TensorFlow 1: y = x / 2 + more."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a, b = v1.Variable(0.5, name="a"), v1.Variable(more, name="b")
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        x = tf.identity(tf.io.parse_example(serialized, X)["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        session.run(v1.global_variables_initializer())
        info, build = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        examples = {"inputs": info(serialized)}
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": build({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
                "classify_x_to_y": build(examples, {"scores": info(y)}, "tensorflow/serving/classify"),
                "regress_x_to_y": build(examples, {"outputs": info(y)}, "tensorflow/serving/regress"),
            },
        )
        builder.save()


class TwoSignatures(tf.Module):
    """Outputs that are no rows."""

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def one(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.constant(1.0)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def two(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.constant(2.0), "z": tf.reduce_sum(x)}


class Mirror(tf.Module):
    """Gives back what it is given, of each type."""

    TYPES = ("float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64", "bool", "bfloat16", "uint16")
    TYPES += ("complex128", "float16", "uint32", "uint64")

    @tf.function(input_signature=[tf.TensorSpec(None, dtype, dtype) for dtype in TYPES])
    def mirror(self, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.identity(value) for name, value in zip(self.TYPES, values, strict=True)}


class Batch(tf.Module):
    """Tells how many rows were computed together, after a while: 150 products of matrices."""

    @tf.function(input_signature=[ROWS])
    def rows(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.assert_less(x, 1000.0, message="a row is too large")
        matrix = tf.eye(300) * (1 + 0 * tf.reduce_sum(x))
        for _ in tf.range(150):
            matrix = tf.linalg.matmul(matrix, matrix)
        rows = tf.shape(x)[0]
        return {"sum": tf.reduce_sum(x, axis=1) + 0 * matrix[0, 0], "batch": tf.fill([rows], rows)}


class Swish(tf.Module):
    """Computes element by element, which TensorFlow fuses into one operation of oneDNN."""

    @tf.function(input_signature=[FLOATS])
    def swish(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * tf.sigmoid(x)}


class Heads(tf.Module):
    """A classifier and a regressor, each with a placeholder of its own, as TensorFlow 2 writes them."""

    @tf.function(input_signature=[EXAMPLES])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.io.parse_example(inputs, X)["x"] / 2 + 2}

    @tf.function(input_signature=[EXAMPLES])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tf.io.parse_example(inputs, X)["x"] / 2 + 3}


class Lite(tf.Module):
    """y = x + more: one number in the SavedModel, another in its model.tflite."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    @tf.function(input_signature=[ROWS])
    def y(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.more, "x2": x * 2.0}


def lite(directory: Path) -> None:
    other = directory.parent / "other"
    for model, path in ((Lite(1.0), directory), (Lite(2.0), other)):
        tf.saved_model.save(model, str(path), model.y)
    (directory / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(other)).convert())
    shutil.rmtree(other)


class Pictures(tf.Module):
    """Adds a picture's pixels up: of any size, if nobody refuses it."""

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, "x")])
    def sum(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(x, axis=[1, 2, 3])}


def pictures(directory: Path) -> None:
    model = Pictures()
    tf.saved_model.save(model, str(directory), model.sum)
    (directory / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(directory)).convert())


def main(directory: Path) -> None:
    half_plus(2.0, directory / "half_plus_two" / "00000123")
    half_plus(3.0, directory / "half_plus_three" / "00000123")
    half_plus(2.0, directory / "two_versions" / "123")
    half_plus(3.0, directory / "two_versions" / "124")
    signatures = TwoSignatures()
    tf.saved_model.save(signatures, str(directory / "two_signatures" / "1"), {"serving_default": signatures.one, "two": signatures.two})
    heads = Heads()
    tf.saved_model.save(heads, str(directory / "heads" / "1"), {"classify": heads.classify, "regress": heads.regress})
    for name, module, function in (("mirror", Mirror(), "mirror"), ("batch", Batch(), "rows"), ("swish", Swish(), "swish")):
        tf.saved_model.save(module, str(directory / name / "1"), getattr(module, function))
    lite(directory / "lite" / "1")
    pictures(directory / "pictures" / "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
