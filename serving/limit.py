"""The in-process limit of a served version: how many images a second its artefact computes without server, protocol and client."""

import time
from collections.abc import Callable

import numpy as np

from serving.server import Version
from serving.servers import server_of
from windtunnel.errors import WindtunnelError

Forward = Callable[[np.ndarray], np.ndarray]
"""Images, float32 (N,28,28,1), to logits, float32 (N,10)."""

WARM_UP = 5  # calls that are not counted: the first take longer


def forward(version: Version) -> Forward:
    """A version's artefact on one thread, by the runtime and in the way of the server that serves it.

    Raises:
        WindtunnelError: what computes it is not installed.
    """
    try:
        return _torchscript(version) if server_of(version.name) == "torchserve" else _saved_model(version)
    except ImportError as error:
        raise WindtunnelError(f"{version} cannot be computed in process ({error}): `make setup` installs what is missing") from error


def images_per_second(compute: Forward, images: np.ndarray, labels: np.ndarray, seconds: float) -> float:
    """How many images it computes a second, one batch after the other.

    Args:
        compute: what is measured.
        images: one batch.
        labels: what it must give.
        seconds: for how long.

    Raises:
        WindtunnelError: a label is another.
    """
    for _ in range(WARM_UP):
        if (compute(images).argmax(axis=1) != labels).any():
            raise WindtunnelError("the artefact gives another label in process than its trainer did")
    calls, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        compute(images)
        calls += 1
    return calls * len(images) / took


def _torchscript(version: Version) -> Forward:
    """As in serving/torchserve/handler.py."""
    import torch

    torch.set_num_threads(1)
    model = torch.jit.optimize_for_inference(torch.jit.load(version.directory / "model.pt", map_location="cpu").eval())

    @torch.inference_mode()
    def compute(images: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(images))["logits"].numpy()

    return compute


def _saved_model(version: Version) -> Forward:
    """By the embedded server's runtimes, as it is started here: LiteRT where there is a model for it."""
    from serving.tfserving.protos import messages_alone

    with messages_alone():
        from tensorflow.core.protobuf import config_pb2

        from serving.tfserving.embedded import lite
        from serving.tfserving.embedded.model import Model, ModelOptions, SavedModel
    directory = version.directory / "saved_model"
    model: Model
    if (directory / lite.FILE).is_file():
        model = lite.LiteModel(directory / lite.FILE, 1)
    else:
        one_thread = config_pb2.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        model = SavedModel(directory, ModelOptions(one_thread, config_pb2.RunOptions(inter_op_thread_pool=-1)))
    return lambda images: model.run("serving_default", {"image": images}, ["logits"])[0]
