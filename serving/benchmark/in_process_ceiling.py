"""The in-process ceiling of a served version: samples per second that its artefact computes without server, protocol and client."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.backends.base import Version
from windtunnel.errors import WindtunnelError
from windtunnel.golden import labels as labels_of
from windtunnel.model import declared

Forward = Callable[[np.ndarray], np.ndarray]
"""Maps samples, float32 (N, shape), to the model's first output, float32 (N,…); for LeNet-5 images, (N,28,28,1), to logits, (N,10)."""

SAVED_MODEL = "saved_model"

WARM_UP = 5  # discarded calls; the first ones take longer


def forward(version: Version) -> Forward:
    """Load a version's artefact for one thread, with the runtime of the server that serves it.

    Raises:
        WindtunnelError: the runtime is not installed, or the artefact is in another format.
    """
    try:
        model, framework = declared(version.name)
        export, first = version.directory / framework.export, model.outputs[0].name
        if export.suffix == ".pt":
            return _torchscript(export, first)
        if export.name == SAVED_MODEL:
            return _saved_model(export, model.input.name, first)
    except ImportError as error:
        raise WindtunnelError(f"{version} cannot be computed in process ({error}). Install what is missing with `make setup`") from error
    raise WindtunnelError(f"{version} cannot be computed in process: found {export.name}, expected TorchScript (.pt) or {SAVED_MODEL}")


def samples_per_second(compute: Forward, samples: np.ndarray, labels: np.ndarray, seconds: float) -> float:
    """Measure how many samples it computes per second, one batch after the other.

    Args:
        compute: the forward pass to measure.
        samples: one batch.
        labels: the expected labels.
        seconds: length of the measurement.

    Raises:
        WindtunnelError: a label differs from the expected one.
    """
    for _ in range(WARM_UP):
        if (labels_of(compute(samples)) != labels).any():
            raise WindtunnelError("wrong answer: in process, the artefact gives other labels than its trainer did. Train it again")
    calls, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        compute(samples)
        calls += 1
    return calls * len(samples) / took


def _torchscript(export: Path, first: str) -> Forward:
    """Load it as serving/backends/torchserve/handler.py does."""
    import torch

    torch.set_num_threads(1)
    model = torch.jit.optimize_for_inference(torch.jit.load(export, map_location="cpu").eval())

    @torch.inference_mode()
    def compute(samples: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(samples))[first].numpy()

    return compute


def _saved_model(directory: Path, taken: str, first: str) -> Forward:
    """Load it with the embedded server's runtimes, as it is started here: LiteRT if there is a model for it."""
    from serving.tfserving_protos import messages_alone

    with messages_alone():
        from tensorflow.core.protobuf import config_pb2

        from serving.tfserving_embedded.runtime import lite
        from serving.tfserving_embedded.runtime.model import Model, ModelOptions, SavedModel
    model: Model
    if (directory / lite.FILE).is_file():
        model = lite.LiteModel(directory / lite.FILE, 1)
    else:
        one_thread = config_pb2.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        model = SavedModel(directory, ModelOptions(one_thread, config_pb2.RunOptions(inter_op_thread_pool=-1)))
    return lambda samples: model.run("serving_default", {taken: samples}, [first])[0]
