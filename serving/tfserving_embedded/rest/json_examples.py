"""Classify and Regress in JSON: `examples`, with a shared `context`, as `tf.Example`s; and the replies.

https://www.tensorflow.org/tfx/serving/api_rest#classify_and_regress_api
"""

from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.tfserving_embedded.rest.json_document import Document
from serving.tfserving_embedded.rest.json_predict import write
from serving.tfserving_embedded.rest.json_tensor import decode_base64, is_base64, tensor, type_name
from serving.tfserving_embedded.serving_error import invalid_argument

_KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def examples(document: Document) -> input_pb2.Input:
    """Return the examples of a request.

    Raises:
        ServingError: there are none, or one is not a JSON object of scalars and lists of one type.
    """
    members = document.members
    request = input_pb2.Input()
    into = request.example_list.examples
    if "context" in members:
        _fill(request.example_list_with_context.context, members["context"])
        into = request.example_list_with_context.examples
    if "examples" not in members:
        raise document.wrong("When method is classify, key 'examples' is expected and was not found")
    values = members["examples"]
    if not isinstance(values, list):
        raise document.wrong("Expecting 'examples' value to be an list/array")
    if not values:
        raise document.wrong("'examples' value is an empty array")
    for value in values:
        _fill(into.add(), value)
    return request


def _fill(example: example_pb2.Example, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _append(feature, name, element)


def _append(feature: feature_pb2.Feature, name: str, element: Any) -> None:
    kind, value = _element(name, element)
    found = feature.WhichOneof("kind")
    if found not in (None, _KINDS[kind]):
        expected = next(kind for kind, field in _KINDS.items() if field == found)
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {expected}")
    getattr(feature, _KINDS[kind]).value.append(value)


def _element(name: str, element: Any) -> tuple[str, Any]:
    if isinstance(element, str):
        return "bytes", element.encode()
    if is_base64(element):
        return "bytes", decode_base64(element)
    if isinstance(element, float):
        return "float", tensor(element, np.dtype(np.float32)).item()
    if isinstance(element, int):
        if not -(2**63) <= element < 2**63:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64", int(element)
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(element)}")


def classifications(result: classification_pb2.ClassificationResult) -> bytes:
    """Return the reply to a Classify request: for each example, a list of pairs of label and score."""
    return write({"results": [[[c.label, np.float32(c.score)] for c in example.classes] for example in result.classifications]})


def regressions(result: regression_pb2.RegressionResult) -> bytes:
    """Return the reply to a Regress request: a number for each example."""
    return write({"results": np.array([regression.value for regression in result.regressions], np.float32)})
