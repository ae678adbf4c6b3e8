"""What the server does, without a protocol: gRPC and REST both stand on this, and so on the same micro-batches.

Everything here runs on one asyncio loop; only loading and inference run on threads. A request names a model, and at most one of a
version and a label; with neither it gets the largest version that is AVAILABLE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, get_model_status_pb2, inference_pb2, input_pb2, regression_pb2
from tensorflow_serving.config import model_server_config_pb2

State = get_model_status_pb2.ModelVersionStatus.State
"""START, LOADING, AVAILABLE, UNLOADING and END; `State.Name(state)` is the word."""


@dataclass(frozen=True)
class VersionStatus:
    """Where a version is in its life, and what went wrong if it ended so (`code` is OK otherwise)."""

    version: int
    state: int
    code: grpc.StatusCode
    message: str


class Core:
    """The models of a server.

    Raises, from everything that answers a request:
        ServingError: INVALID_ARGUMENT for inputs that do not fit or an unknown label, NOT_FOUND for a model or version that is not
            loaded, FAILED_PRECONDITION for an unknown signature in gRPC's calls, and whatever TensorFlow's runtime reports.
    """

    async def predict(
        self,
        name: str,
        version: int | None,
        label: str | None,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str] = (),
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Run a signature.

        Args:
            name: the model.
            version: its version, or None.
            label: a label of a version, or None.
            signature_name: the signature, `""` for `serving_default`.
            inputs: a value for each input of the signature; strings as object arrays of `bytes`.
            output_filter: the outputs wanted; all if empty.

        Returns:
            The version that answered, and its outputs by name.
        """
        raise NotImplementedError

    async def classify(
        self, name: str, version: int | None, label: str | None, signature_name: str, examples: input_pb2.Input
    ) -> tuple[int, classification_pb2.ClassificationResult]:
        """Run a classification signature on `tf.Example`s: classes with scores, a list an example."""
        raise NotImplementedError

    async def regress(
        self, name: str, version: int | None, label: str | None, signature_name: str, examples: input_pb2.Input
    ) -> tuple[int, regression_pb2.RegressionResult]:
        """Run a regression signature on `tf.Example`s: a number an example."""
        raise NotImplementedError

    async def multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Run several signatures of one model on the same `tf.Example`s."""
        raise NotImplementedError

    def metadata(self, name: str, version: int | None, label: str | None) -> tuple[int, dict[str, meta_graph_pb2.SignatureDef]]:
        """The signatures of a version, by name."""
        raise NotImplementedError

    def signature(
        self, name: str, version: int | None, label: str | None, signature_name: str
    ) -> tuple[int, meta_graph_pb2.SignatureDef]:
        """One signature, with the types and shapes of its inputs and outputs, for REST to read JSON by.

        Raises:
            ServingError: INVALID_ARGUMENT, with REST's text, where the model has no such signature.
        """
        raise NotImplementedError

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """The versions of a model that this process has known, the largest first; one if a version or label is given."""
        raise NotImplementedError

    async def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serve what a configuration says from now on; returns when the models that are new have a version AVAILABLE.

        Raises:
            ServingError: the configuration cannot be taken; nothing has changed then. Or UNKNOWN: a new model did not load.
        """
        raise NotImplementedError
