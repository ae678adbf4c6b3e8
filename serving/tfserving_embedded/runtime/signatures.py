"""Check whether a request fits a signature, with TensorFlow Serving's error messages.

servables/tensorflow/predict_util.cc, and GetInputValues in TensorFlow's cc/saved_model/util.cc
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.tfserving_embedded.runtime.tensors import to_array
from serving.tfserving_embedded.serving_error import failed_precondition, invalid_argument

DEFAULT_SIGNATURE = "serving_default"


def find_signature(signatures: Mapping[str, meta_graph_pb2.SignatureDef], name: str) -> meta_graph_pb2.SignatureDef:
    """Return the signature that a prediction requests.

    Raises:
        ServingError: FAILED_PRECONDITION: the model has no such signature.
    """
    if name not in signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return signatures[name]


def complete_inputs(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the inputs of a signature: those of a request, completed with the signature's defaults.

    Raises:
        ServingError: INVALID_ARGUMENT: inputs are missing, or there are too many.
    """
    sent, wanted, defaults = set(inputs), set(signature.inputs), set(signature.defaults)
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_braces(sent)}) != len({_braces(wanted)}). "
            f"Sent extra: {_braces(sent - wanted)}. Missing but required: {_braces(wanted - sent)}."
        )
    if missing := wanted - sent - defaults:
        alias = min(missing)
        feed = signature.inputs[alias].name
        raise invalid_argument(
            f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value provided. "
            f"Inputs expected to be in the request {_braces(sent)}, or default input alias set: {_listed(defaults)}"
        )
    if sent - wanted:
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_listed(sent & wanted)}, request input: {_listed(sent)}"
        )
    return {**inputs, **{alias: to_array(signature.defaults[alias], alias) for alias in wanted - sent}}


def select_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Return the outputs to compute: those in a filter, or all.

    Raises:
        ServingError: INVALID_ARGUMENT: the filter contains a name twice, or an unknown one.
    """
    for index, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {_braces(signature.outputs)}."
            )
        if alias in output_filter[:index]:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return list(output_filter) or sorted(signature.outputs)


def _braces(names: Iterable[str]) -> str:
    return "{" + _listed(names) + "}"


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
