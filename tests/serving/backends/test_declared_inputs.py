"""What the backends send for a model of another package, and how they read labels, without servers."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from serving.backends.base import baseline_name, served_model
from serving.backends.tfserving.backend import TFServing
from serving.backends.tfserving.client import Client, from_tensor, to_tensor
from serving.backends.torchserve.backend import TorchServe, _body
from serving.load.requests import Batch
from serving.tfserving_protos import PredictRequest, PredictResponse
from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.model import Input, Output, find_model
from windtunnel.settings import Settings

POINTS = np.arange(8, dtype=np.float32).reshape(2, 4)
BATCHES = [Batch(POINTS, (2, 0))]
ONE_OUTPUT = dataclasses.replace(LENET5, outputs=(Output("scores", (3,)),))


@pytest.mark.usefixtures("extension")
def test_what_is_served_under_a_name():
    assert served_model("lenet5-pytorch") == find_model("lenet5")
    assert served_model("blobs-numpy") == find_model("blobs") == served_model(baseline_name(find_model("blobs")))
    with pytest.raises(WindtunnelError, match="'cats' is not a registered model"):
        served_model("cats")
    with pytest.raises(WindtunnelError, match="model 'cats' is unknown"):
        served_model("no-op-baseline-cats")


@pytest.mark.parametrize(
    ("shape", "shown"), [((28, 28, 1), (28, 28)), ((8, 12, 1), (8, 12)), ((4, 6, 3), (4, 6, 3))], ids=["28x28", "8x12", "colour"]
)
def test_torchserve_gets_one_image_as_a_png_and_more_as_an_npy_of_bytes(shape, shown):
    images = np.random.default_rng(1).integers(0, 256, (2, *shape)).astype(np.float32)
    declared = Input("image", shape, "image", "a:b")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(_body(images[:1], declared)))), images[0].reshape(shown))
    sent = np.load(io.BytesIO(_body(images, declared)))
    assert sent.dtype == np.uint8
    assert np.array_equal(sent, images)


def test_torchserve_gets_numbers_as_they_are():
    for points in (POINTS, POINTS[:1]):
        sent = np.load(io.BytesIO(_body(points / 3, Input("point", (4,), "array", "a:b"))))
        assert (sent.dtype, sent.tolist()) == (np.float32, (points / 3).tolist())


@pytest.mark.usefixtures("extension")
def test_tensorflow_serving_gets_the_declared_input_and_labels_are_of_the_first_output():
    client, blobs = Client("127.0.0.1:9", "http://127.0.0.1:9"), find_model("blobs")
    grpc = client.grpc_requests("blobs-numpy", 3, BATCHES, blobs)
    request = PredictRequest.FromString(grpc.messages[0])
    assert (list(request.inputs), request.model_spec.version.value) == (["point"], 3)
    assert np.array_equal(from_tensor(request.inputs["point"]), POINTS)
    answer = PredictResponse()
    answer.outputs["scores"].CopyFrom(to_tensor(np.array([[0, 1, 2], [5, 1, 0]], np.float32)))
    answer.outputs["distance"].CopyFrom(to_tensor(np.array([1, 2], np.float32)))
    assert grpc.read(answer.SerializeToString()) == [2, 0]
    rest = client.rest_requests("blobs-numpy", 3, BATCHES, blobs)
    assert json.loads(rest.messages[0]) == {"instances": POINTS.tolist()}
    rows = [{"scores": [0, 1, 2], "distance": 9}, {"scores": [5, 1, 0], "distance": 0}]
    assert rest.read(json.dumps({"predictions": rows}).encode()) == [2, 0]


def test_tensorflow_serving_does_not_name_a_single_output():
    rest = Client("127.0.0.1:9", "http://127.0.0.1:9").rest_requests("a", 1, BATCHES, ONE_OUTPUT)
    assert rest.read(b'{"predictions": [[0, 1, 2], [5, 1, 0]]}') == [2, 0]
    assert rest.read(b'{"predictions": [0.5, 7]}') == [0, 0]


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(("name", "file"), [("lenet5-pytorch", "img/digit.png"), ("blobs-numpy", "sample.npy")])
def test_an_example_sends_a_file_that_the_model_takes(tmp_path, name, file):
    for backend in (TorchServe, TFServing):
        command = backend(Settings(home=tmp_path)).example(name)
        assert file in command
        assert f"/{name}" in command
