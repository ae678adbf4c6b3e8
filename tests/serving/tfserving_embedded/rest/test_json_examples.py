"""The cases are those of TensorFlow Serving's own json_tensor_test.cc."""

import json
import math

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.tfserving_embedded.rest import json_document, json_examples
from serving.tfserving_embedded.serving_error import ServingError


def read(body):
    return json_examples.examples(json_document.read(body.encode()))


def test_scalars_and_lists_become_features_of_their_type():
    expected = """
    example_list {
      examples { features {
        feature { key: "names" value { bytes_list { value: "foo" value: "hello" } } }
        feature { key: "ratings" value { float_list { value: 8.0 value: nan value: -inf } } }
        feature { key: "age" value { int64_list { value: 20 } } }
      } }
      examples { features { feature { key: "mix" value { int64_list { value: 1 value: 1 value: 0 } } } feature { key: "none" value {} } } }
    }"""
    found = read(
        """{"examples": [{"names": ["foo", {"b64": "aGVsbG8="}], "ratings": [8.0, NaN, -Infinity], "age": 20},
                         {"mix": [1, true, false], "none": []}]}"""
    )
    assert text_format.MessageToString(found) == text_format.MessageToString(text_format.Parse(expected, input_pb2.Input()))


def test_a_context_is_kept_beside_the_examples():
    found = read('{"signature_name": "x", "context": {"query": "pizza"}, "examples": [{"age": 1}, {"age": 2}]}')
    assert found.WhichOneof("kind") == "example_list_with_context"
    assert found.example_list_with_context.context.features.feature["query"].bytes_list.value == [b"pizza"]
    assert [e.features.feature["age"].int64_list.value[0] for e in found.example_list_with_context.examples] == [1, 2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {"names": ["foo"]}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [[{"names": ["foo"]}]]}', "Example must be JSON object but got JSON Array"),
        ('{"context": [{"names": ["foo"]}]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"names": [10, null]}]}', "Feature: names has element with unexpected JSON type: Null"),
        ('{"examples": [{"names": [10, 10.0]}]}', "Unexpected element type in feature: names expecting type: int64"),
        ('{"examples": [{"names": ["a", 1]}]}', "Unexpected element type in feature: names expecting type: bytes"),
        ('{"examples": [{"names": [10, {"test": 10}]}]}', "names has element with unexpected JSON type: Object"),
        ('{"examples": [{"names": [[10], 20]}]}', "names has element with unexpected JSON type: Array"),
        ('{"examples": [{"names": [20, 18446744073709551603]}]}', "Only int64 is supported"),
        ('{"examples": [{"names": 1.7976931348623157e308}]}', "without loss of precision"),
        ('{"examples": [{"names": {"b64": "!"}}]}', "Unable to base64 decode"),
    ],
)
def test_what_is_wrong_is_said_in_the_servers_words(body, expected):
    with pytest.raises(ServingError, match=expected.replace("[", r"\[")):
        read(body)


def test_classes_are_pairs_of_label_and_score():
    result = text_format.Parse(
        """classifications { classes { label: "car" score: 0.2 } classes { label: "bike" score: 0.7 } }
           classifications { classes { label: "" score: nan } }""",
        classification_pb2.ClassificationResult(),
    )
    (first, (second,)) = json.loads(json_examples.classifications(result))["results"]
    assert first == [["car", 0.2], ["bike", 0.7]]
    assert second[0] == ""
    assert math.isnan(second[1])


def test_regressions_are_numbers():
    result = regression_pb2.RegressionResult(regressions=[regression_pb2.Regression(value=value) for value in (0.2, 1, math.inf)])
    assert json_examples.regressions(result) == b'{"results": [0.2, 1.0, Infinity]}'
