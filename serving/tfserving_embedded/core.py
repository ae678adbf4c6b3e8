"""The server's functions, independent of the protocol: gRPC and REST both use them, and so share the same micro-batches.

Everything here runs on one asyncio event loop; only loading and inference run on threads. A request names a model, and at most one of
version and label; with neither it gets the largest version that is AVAILABLE.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.batching import Batcher
from serving.tfserving_embedded.config_files import check_model_config
from serving.tfserving_embedded.runtime import examples, signatures
from serving.tfserving_embedded.runtime.model import Model
from serving.tfserving_embedded.serving_error import ServingError, failed_precondition, invalid_argument, not_found
from serving.tfserving_embedded.versions import State, Versions

__all__ = ["Core", "State", "VersionStatus"]

_OUTPUTS = {examples.CLASSIFY: examples.classification_outputs, examples.REGRESS: examples.regression_outputs}


@dataclass(frozen=True)
class VersionStatus:
    """The state of a version, and its error (`code` is OK if there is none)."""

    version: int
    state: int
    code: grpc.StatusCode
    message: str


class Core:
    """The models of a server.

    Everything that answers a request raises:
        ServingError: INVALID_ARGUMENT for invalid inputs or an unknown label, NOT_FOUND for a model or version that is not loaded,
            FAILED_PRECONDITION for an unknown signature in gRPC calls, and whatever TensorFlow's runtime reports.
    """

    def __init__(
        self, versions: Versions, batcher: Batcher, allow_version_labels_for_unavailable_models: bool, wait_for_models: bool
    ) -> None:
        """Initialise without models; call `reload` to load them.

        Args:
            versions: the loaded versions.
            batcher: the batcher that computes.
            allow_version_labels_for_unavailable_models: let new labels point to versions that are not AVAILABLE yet.
            wait_for_models: wait for models that have no versions yet, as the real server does.
        """
        self._versions = versions
        self._batcher = batcher
        self._allow_labels_for_unavailable = allow_version_labels_for_unavailable_models
        self._wait_for_models = wait_for_models
        self._labels: dict[str, dict[str, int]] = {}
        self._configured = False
        self._reloading = asyncio.Lock()

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
            inputs: a value for each input of the signature that has no default; strings as object arrays of `bytes`.
            output_filter: the outputs to return; all if empty.

        Returns:
            The version that answered, and its outputs by name.
        """
        with self._use(name, version, label) as (number, model):
            signature_name = signature_name or signatures.DEFAULT_SIGNATURE
            signature = signatures.find_signature(model.signatures, signature_name)
            inputs = signatures.complete_inputs(signature, inputs)
            outputs = signatures.select_outputs(signature, output_filter)
            with metrics.runtime(name, "Predict"):
                values = await self._batcher.run(model, signature_name, inputs, outputs)
            return number, dict(zip(outputs, values, strict=True))

    async def classify(
        self, name: str, version: int | None, label: str | None, signature_name: str, input_: input_pb2.Input
    ) -> tuple[int, classification_pb2.ClassificationResult]:
        """Run a classification signature on `tf.Example`s: a list of classes with scores per example."""
        with self._use(name, version, label) as (number, model):
            return number, await self._classify(name, model, signature_name, examples.serialized_examples(input_))

    async def regress(
        self, name: str, version: int | None, label: str | None, signature_name: str, input_: input_pb2.Input
    ) -> tuple[int, regression_pb2.RegressionResult]:
        """Run a regression signature on `tf.Example`s: a number per example."""
        with self._use(name, version, label) as (number, model):
            return number, await self._regress(name, model, signature_name, examples.serialized_examples(input_))

    async def multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Run several classification and regression signatures of one version on the same `tf.Example`s."""
        specs = [task.model_spec for task in request.tasks]
        if not specs or not all(spec.name for spec in specs):
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if len({spec.name for spec in specs}) != 1:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        names = [spec.signature_name or signatures.DEFAULT_SIGNATURE for spec in specs]
        for index, signature_name in enumerate(names):
            if signature_name in names[:index]:
                raise invalid_argument(f"Duplicate evaluation of signature: {signature_name}")
        response = inference_pb2.MultiInferenceResponse()
        with self._use(specs[0].name, *version_choice(specs[0])) as (number, model):
            if missing := [signature_name for signature_name in names if signature_name not in model.signatures]:
                raise invalid_argument(f"Requested signature not found in model graph: {missing[0]}")
            for task, signature_name in zip(request.tasks, names, strict=True):
                if task.method_name not in _OUTPUTS:
                    raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
                _OUTPUTS[task.method_name](model.signatures, signature_name)
            values = examples.serialized_examples(request.input)
            for task, signature_name in zip(request.tasks, names, strict=True):
                result = response.results.add()
                result.model_spec.name, result.model_spec.signature_name = task.model_spec.name, signature_name
                result.model_spec.version.value = number
                if task.method_name == examples.CLASSIFY:
                    result.classification_result.CopyFrom(await self._classify(specs[0].name, model, signature_name, values))
                else:
                    result.regression_result.CopyFrom(await self._regress(specs[0].name, model, signature_name, values))
        return response

    def metadata(self, name: str, version: int | None, label: str | None) -> tuple[int, dict[str, meta_graph_pb2.SignatureDef]]:
        """Return the signatures of a version, by name."""
        with self._use(name, version, label) as (number, model):
            return number, dict(model.signatures)

    def signature(self, name: str, version: int | None, label: str | None, signature_name: str) -> tuple[int, meta_graph_pb2.SignatureDef]:
        """Return one signature, with the types and shapes of its inputs and outputs, by which REST parses JSON.

        Raises:
            ServingError: INVALID_ARGUMENT, with REST's message, if the model has no such signature.
        """
        signature_name = signature_name or signatures.DEFAULT_SIGNATURE
        with self._use(name, version, label) as (number, model):
            if signature_name not in model.signatures:
                raise invalid_argument(f'Serving signature name: "{signature_name}" not found in signature def')
            return number, model.signatures[signature_name]

    def knows(self, name: str) -> bool:
        """Return whether this process has ever had a model of this name."""
        return self._versions.model(name) is not None

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """Return the versions of a model that this process has known, the largest first; one if a version or label is given."""
        number = self._number(name, version, label)
        model = self._versions.model(name)
        known = model.versions if model else {}
        if number is not None and number not in known:
            raise not_found(f"Could not find version {number} of model {name}")
        if not known:
            raise not_found(f"Could not find any versions of model {name}")
        return [
            VersionStatus(v.number, v.state, v.error.code if v.error else grpc.StatusCode.OK, v.error.message if v.error else "")
            for v in sorted(known.values(), key=lambda v: v.number, reverse=True)
            if number in (None, v.number)
        ]

    async def configure(self, config: model_server_config_pb2.ModelServerConfig) -> set[str]:
        """Apply a configuration.

        Returns:
            The names of the new models, which begin to load.

        Raises:
            ServingError: the configuration is invalid; nothing has changed.
        """
        async with self._reloading:
            kind = config.WhichOneof("config")
            if self._configured and kind != "model_config_list":  # a file may be empty while it is being written
                raise failed_precondition(
                    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
                )
            models = check_model_config(config)
            self._configured = kind is not None
            self._labels = self._check_labels(models)
            return await self._versions.configure(models)

    async def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Apply a configuration, and return when the new models have an AVAILABLE version.

        Meanwhile another configuration may be applied, and may correct this one.

        Raises:
            ServingError: the configuration is invalid, or, with UNKNOWN, a new model did not load.
        """
        await self._versions.wait_until_settled(await self.configure(config), self._wait_for_models)

    def _check_labels(self, models: Mapping[str, model_server_config_pb2.ModelConfig]) -> dict[str, dict[str, int]]:
        """Return the labels of a configuration. Users may rely on them: each points to a version that answers now."""
        for name, config in models.items():
            model = self._versions.model(name)
            available = {version.number for version in model.available()} if model else set()
            for label, number in config.version_labels.items():
                moved = self._labels.get(name, {}).get(label, number) != number
                if number not in available and (moved or not self._allow_labels_for_unavailable):
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {name}, which is not currently available for inference"
                    )
        return {name: dict(config.version_labels) for name, config in models.items()}

    def _use(self, name: str, version: int | None, label: str | None) -> AbstractContextManager[tuple[int, Model]]:
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        return self._versions.use(name, self._number(name, version, label))

    def _number(self, name: str, version: int | None, label: str | None) -> int | None:
        if label is None:
            return version
        try:
            return self._labels[name][label]
        except KeyError:
            raise invalid_argument(f"Unrecognized servable version label: {label}") from None

    async def _classify(self, name: str, model: Model, signature_name: str, values: np.ndarray) -> classification_pb2.ClassificationResult:
        signature_name = signature_name or signatures.DEFAULT_SIGNATURE
        outputs = examples.classification_outputs(model.signatures, signature_name)
        with metrics.runtime(name, "Classify"):
            arrays = await self._batcher.run(model, signature_name, {examples.INPUT: values}, outputs)
        return examples.classifications(dict(zip(outputs, arrays, strict=True)), len(values))

    async def _regress(self, name: str, model: Model, signature_name: str, values: np.ndarray) -> regression_pb2.RegressionResult:
        signature_name = signature_name or signatures.DEFAULT_SIGNATURE
        outputs = examples.regression_outputs(model.signatures, signature_name)
        with metrics.runtime(name, "Regress"):
            (array,) = await self._batcher.run(model, signature_name, {examples.INPUT: values}, outputs)
        return examples.regressions(array, len(values))


def version_choice(spec: model_pb2.ModelSpec) -> tuple[int | None, str | None]:
    """Return the version and the label of a request's model; at most one is not None."""
    return (
        spec.version.value if spec.HasField("version") else None,
        spec.version_label if spec.HasField("version_label") else None,
    )
