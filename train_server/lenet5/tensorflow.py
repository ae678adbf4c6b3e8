"""LeNet-5 in TensorFlow: `python -m train_server.lenet5.tensorflow --help`. The contract is `train_server/README.md`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from train_server.lenet5.model import LENET5
from train_server.lenet5.trainer import Conditions, Model, Tensors, Trainer, main


@contextmanager
def no_stderr() -> Iterator[None]:
    """Redirect the process's standard error, including that of C++ code, to /dev/null."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # not installed, so TensorFlow does not import Keras and with it scikit-learn and Matplotlib
with no_stderr():  # during its import TensorFlow ignores the log level
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

    from train_server.lenet5 import litert

PIXELS = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")


class LeNet5(tf.Module):
    """Pixels 0..255, float32 (N,28,28,1) → logits (N,10). 61,706 parameters."""

    def __init__(self, weights: Tensors, mean: float, std: float, dtype: str) -> None:
        super().__init__()
        self.weights = {name: tf.Variable(from_pytorch(name, weight), name=name, dtype=dtype) for name, weight in weights.items()}
        self.mean = mean
        self.std = std

    def normalise(self, image: tf.Tensor) -> tf.Tensor:
        """Normalise and zero-pad images: pixels 0..255, (N,28,28,1) → (N,32,32,1)."""
        return tf.pad((image / 255 - self.mean) / self.std, [[0, 0], [2, 2], [2, 2], [0, 0]])

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Compute the logits (N,10) of normalised images (N,32,32,1)."""
        w = self.weights
        # ReLU commutes with max-pooling: after pooling it has a quarter of the work.
        x = tf.nn.relu(tf.nn.max_pool2d(tf.nn.conv2d(x, w["c1.weight"], 1, "VALID") + w["c1.bias"], 2, 2, "VALID"))
        x = tf.nn.relu(tf.nn.max_pool2d(tf.nn.conv2d(x, w["c3.weight"], 1, "VALID") + w["c3.bias"], 2, 2, "VALID"))
        # C5's kernel covers all of S4, so its convolution is one matrix product.
        x = tf.nn.relu(tf.reshape(x, [-1, 400]) @ w["c5.weight"] + w["c5.bias"])
        x = tf.nn.relu(x @ w["f6.weight"] + w["f6.bias"])
        return x @ w["out.weight"] + w["out.bias"]

    @tf.function(input_signature=[PIXELS])
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `probabilities` and `logits` (N,10) of pixels 0..255, float32 (N,28,28,1). This function is exported."""
        logits = self.logits(self.normalise(image))
        # Max-pooling and ReLU drop NaN, so an image with NaN pixels would get a plausible answer. A sum keeps NaN.
        numbers = tf.abs(tf.reduce_sum(image, [1, 2, 3]))[:, None] < np.inf
        logits = tf.where(numbers, logits, np.nan)
        return {"probabilities": tf.nn.softmax(logits), "logits": logits}


class TensorFlow(Trainer):
    """The trainer in TensorFlow, with a whole epoch as one graph."""

    framework = LENET5.framework("tensorflow")

    def __init__(self, conditions: Conditions, dtype: str) -> None:
        spec = conditions.spec
        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.spec = spec
        self.dtype = tf.as_dtype(dtype)
        self.model = LeNet5(conditions.weights, spec.mean, spec.std, dtype)
        self.first_moments = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in self.model.weights.items()}
        self.second_moments = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in self.model.weights.items()}
        self.steps_taken = 0
        self.warm_up_image = conditions.test_images[:1, ..., None].astype(np.float32)  # of the golden set
        # The whole data set in one tensor, normalised and padded once.
        self.images = self.model.normalise(conditions.images[..., None].astype(dtype))
        self.labels = tf.constant(conditions.labels, tf.int32)
        rates = tf.TensorSpec([None], dtype)
        self.train_steps = tf.function(self.take_steps, input_signature=[tf.TensorSpec([None, None], tf.int32), rates, rates])
        self.compile(np.zeros_like(conditions.order[0, :1]))

    def compile(self, order: np.ndarray) -> None:
        """Build the graph and its kernels by taking one step, then restore all variables."""
        variables = [*self.model.weights.values(), *self.first_moments.values(), *self.second_moments.values()]
        before = [variable.numpy() for variable in variables]
        self.train_steps(tf.constant(order), tf.ones([1], self.dtype), tf.ones([1], self.dtype))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def loss_and_gradients(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Compute the mean cross-entropy (), the logits (B,10) and the gradient of every weight for the training samples `batch`."""
        with tf.GradientTape() as tape:
            logits = self.model.logits(tf.gather(self.images, batch))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(self.labels, batch), logits))
        return loss, logits, tape.gradient(loss, self.model.weights)

    def train_step(self, batch: tf.Tensor, rate: tf.Tensor, correction: tf.Tensor) -> tf.Tensor:
        """Take a step of Kingma and Ba's Adam, which adds epsilon elsewhere than Keras.

        `rate` is the learning rate / (1 - beta1^t), `correction` is sqrt(1 - beta2^t).
        """
        loss, _, gradients = self.loss_and_gradients(batch)
        beta1, beta2 = self.spec.beta1, self.spec.beta2
        for name, weight in self.model.weights.items():
            gradient, m, v = gradients[name], self.first_moments[name], self.second_moments[name]
            m.assign(beta1 * m + (1 - beta1) * gradient)
            v.assign(beta2 * v + (1 - beta2) * gradient**2)
            weight.assign_sub(rate * m / (tf.sqrt(v) / correction + self.spec.epsilon))
        return loss

    def take_steps(self, order: tf.Tensor, rates: tf.Tensor, corrections: tf.Tensor) -> tf.Tensor:
        """Take all steps of an epoch in one graph, without returning to Python between them."""
        losses = tf.TensorArray(self.dtype, tf.shape(order)[0])
        for step in tf.range(tf.shape(order)[0]):
            losses = losses.write(step, self.train_step(order[step], rates[step], corrections[step]))
        return losses.stack()

    def train_epoch(self, order: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Compute Adam's bias corrections in float64 and run the graph; see `Trainer.train_epoch`."""
        t = self.steps_taken + 1 + np.arange(len(order))
        self.steps_taken += len(order)
        rates = learning_rate / (1 - self.spec.beta1**t)
        corrections = np.sqrt(1 - self.spec.beta2**t)
        return self.train_steps(tf.constant(order), tf.constant(rates, self.dtype), tf.constant(corrections, self.dtype)).numpy()

    def probe(self, batch: np.ndarray) -> Tensors:
        """Compute logits and gradients without a step; see `Trainer.probe`."""
        _, logits, gradients = self.loss_and_gradients(tf.constant(batch))
        gradients = {f"gradient.{name}": to_pytorch(name, gradient.numpy()) for name, gradient in gradients.items()}
        return {"logits": logits.numpy(), **gradients}

    def predict(self, images: np.ndarray) -> Tensors:
        """Classify images in batches of 1000; see `Trainer.predict`."""
        pixels = images[..., None].astype(np.float32)
        outputs = [self.model.serve(pixels[start : start + 1000]) for start in range(0, len(pixels), 1000)]
        return {name: np.concatenate([output[name] for output in outputs]) for name in ("probabilities", "logits")}

    def save(self, path: Path) -> None:
        """Write a SavedModel with `serving_default` and a warm-up request, and its LiteRT form."""
        tf.saved_model.save(self.model, str(path), signatures={"serving_default": self.model.serve})
        with no_stderr():
            (path / litert.FILE).write_bytes(litert.convert(path))
        # TensorFlow Serving replays these requests before it answers the first user.
        request = PredictRequest(inputs={"image": tf.make_tensor_proto(self.warm_up_image)})
        request.model_spec.name = "lenet5-tensorflow"
        request.model_spec.signature_name = "serving_default"
        warm_up = path / "assets.extra" / "tf_serving_warmup_requests"
        warm_up.parent.mkdir()
        with tf.io.TFRecordWriter(str(warm_up)) as writer:
            writer.write(PredictionLog(predict_log=PredictLog(request=request)).SerializeToString())

    @staticmethod
    def load(path: Path) -> dict[Path, Model]:
        """Load the SavedModel and its LiteRT form."""
        model = tf.saved_model.load(str(path))
        serve = model.signatures["serving_default"]
        with no_stderr():
            lite = litert.load(path / litert.FILE)
        return {
            path: lambda image: {name: output.numpy() for name, output in serve(image=tf.constant(image)).items()},
            path / litert.FILE: lite,
        }


def from_pytorch(name: str, weight: np.ndarray) -> np.ndarray:
    """Convert a weight from PyTorch's to TensorFlow's layout.

    (out, in, height, width) → (height, width, in, out); (out, in) → (in, out). The weight of C5 becomes a matrix (400, 120).
    """
    weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    return weight.reshape(-1, 120) if name == "c5.weight" else weight


def to_pytorch(name: str, weight: np.ndarray) -> np.ndarray:
    """Convert a weight from TensorFlow's to PyTorch's layout: the inverse of `from_pytorch`."""
    weight = weight.reshape(5, 5, 16, 120) if name == "c5.weight" else weight
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T)


if __name__ == "__main__":
    main(TensorFlow)
