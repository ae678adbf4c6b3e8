import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.golden import far, labels, read_golden, wrong_labels
from windtunnel.model import Output

SCORED = dataclasses.replace(LENET5, outputs=(Output("scores", (2, 2)), Output("distance", ())))


def golden(**changes):
    scores = np.array([[[0, 1], [2, 3]], [[9, 1], [2, 3]]], np.float32)
    tensors = {"image": np.zeros((2, 28, 28, 1), np.float32), "scores": scores, "distance": np.ones(2, np.float32)}
    return tensors | {"label": np.array([3, 0])} | changes


def test_a_golden_set_has_the_declared_input_and_outputs(tmp_path):
    save_file(golden(), tmp_path / "golden.safetensors")
    read = read_golden(tmp_path, SCORED)
    assert {name: values.tolist() for name, values in read.items()} == {name: values.tolist() for name, values in golden().items()}
    with pytest.raises(
        WindtunnelError, match=r"golden\.safetensors lacks logits, probabilities: found distance, .*, expected image, logits"
    ):
        read_golden(tmp_path, LENET5)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100])
def test_a_golden_set_that_cannot_be_read_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "golden.safetensors").write_bytes(content)
    with pytest.raises(WindtunnelError, match=r"golden\.safetensors cannot be read \(.*\): train again"):
        read_golden(tmp_path, LENET5)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (np.array([[0, 2, 1], [5, 4, 3]]), [1, 0]),
        (golden()["scores"], [3, 0]),
        (np.array([[7.0], [8.0]]), [0, 0]),
        (np.array([7.0, 8.0]), [0, 0]),
    ],
    ids=["classes", "rows of two dimensions", "rows of one number", "numbers"],
)
def test_a_label_is_the_arg_max_of_a_row_of_the_first_output(first, expected):
    assert labels(first).tolist() == expected


def test_wrong_labels_are_those_of_the_first_output():
    assert wrong_labels(SCORED, golden(), golden()) == 0
    assert wrong_labels(SCORED, golden(), golden(label=np.array([3, 1]))) == 1


def test_what_is_far():
    expected = np.array([[1.0, 40.0]], np.float32)
    assert far(expected + np.float32(1e-6), expected).tolist() == [[False, False]]
    assert far(expected + np.float32([[1e-3, 0]]), expected).tolist() == [[True, False]]
    assert far(expected * np.nan, expected).tolist() == [[True, True]]
    assert far(None, expected) is None
    assert far(expected[:, :1], expected) is None
