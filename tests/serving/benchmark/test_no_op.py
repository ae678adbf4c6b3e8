"""No-op baselines of any model, in process: the same numbers in every format, and no more work than LeNet-5's has always been."""

import dataclasses

import numpy as np
import pytest

from serving.benchmark.in_process_ceiling import _saved_model, _torchscript
from serving.benchmark.no_op import SCALE, rows, take
from serving.benchmark.no_op_baseline import mark
from serving.benchmark.no_op_savedmodel import _graph
from serving.benchmark.no_op_savedmodel import write_no_op as write_saved_model
from serving.benchmark.no_op_torchscript import write_no_op as write_torchscript
from serving.benchmark.subjects import Subject
from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.golden import labels
from windtunnel.model import Input, Output

READER = "serving.backends.images:read_images"
MODELS = {
    "LeNet-5": LENET5,
    "wide": dataclasses.replace(LENET5, input=Input("picture", (8, 12, 1), "image", READER)),
    "small": dataclasses.replace(LENET5, input=Input("picture", (8, 8, 1), "image", READER)),  # no dimension has ten numbers
    "colour": dataclasses.replace(LENET5, input=Input("picture", (6, 5, 3), "image", READER), outputs=(Output("scores", (4, 2)),)),
    "point": dataclasses.replace(LENET5, input=Input("point", (4,), "array", READER), outputs=(Output("a", (3,)), Output("b", ()))),
}


def samples(model, count=3):
    return np.random.default_rng(1).integers(2, 256, (count, *model.input.shape)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["TorchScript", "LiteRT", "SavedModel"])
def test_every_format_gives_multiples_of_the_same_numbers(tmp_path, name, kind):
    model = MODELS[name]
    if kind == "TorchScript":
        write_torchscript(tmp_path / "model.pt", model)
    else:
        write_saved_model(tmp_path / "saved_model", model)
    if kind == "SavedModel":
        (tmp_path / "saved_model/model.tflite").unlink()
    for output, row in rows(model).items():
        if kind == "TorchScript":
            compute = _torchscript(tmp_path / "model.pt", output)
        else:
            compute = _saved_model(tmp_path / "saved_model", model.input.name, output)
        for count in (1, 3):
            found, given = compute(samples(model, count)), samples(model, count)
            assert found.shape == (count, *row)
            assert found.reshape(count, -1) == pytest.approx(take(given, model.input.shape, found[0].size) * SCALE)


def test_lenet5s_are_the_first_ten_pixels_without_any_other_work():
    images = samples(LENET5)
    assert np.array_equal(take(images, (28, 28, 1), 10), images[:, 0, :10, 0])
    assert [operation.kind for operation in _graph(LENET5).operations] == ["StridedSlice", "Mul", "Mul"]
    assert len(_graph(LENET5).constants) == 4


@pytest.mark.parametrize("name", MODELS)
def test_marked_samples_have_their_labels(name):
    model = MODELS[name]
    first = rows(model)[model.outputs[0].name]
    count = np.prod(first, dtype=int)
    wanted = np.arange(3) % count
    given = samples(model)
    marked = mark(Subject(None, None, model, model.frameworks[0], given, wanted))
    assert np.array_equal(given, samples(model)), "a copy is marked"
    assert ((marked >= 1) & (marked <= 255)).all()
    assert labels((take(marked, model.input.shape, count) * SCALE).reshape(3, *first)).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (Output("scores", (None,)), r"declares no size of its output scores\. Declare every size: found \(None,\)"),
        (Output("scores", (5,)), r"cannot be taken from its input: scores has 5 numbers, more than the 4 of a sample"),
    ],
)
def test_a_model_without_a_baseline_is_an_error(output, says):
    with pytest.raises(WindtunnelError, match=says):
        rows(dataclasses.replace(MODELS["point"], outputs=(output,)))
