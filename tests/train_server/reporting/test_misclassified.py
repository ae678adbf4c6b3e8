from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from train_server.lenet5.model import LENET5
from train_server.reporting.misclassified import as_png, draw_misclassified
from windtunnel.data.idx import read_idx
from windtunnel.manifest import read_manifest

IMAGES = np.stack([np.full((28, 28), number, np.uint8) for number in range(100, 120)])


def test_only_what_is_wrong_is_drawn_in_the_order_of_the_test_set():
    labels, predictions = np.zeros(20, int), np.zeros(20, int)
    predictions[[3, 7]] = 1
    picture = np.asarray(draw_misclassified(IMAGES, labels, predictions))
    assert picture[20, 20] == 103
    assert picture[20, 140] == 107
    assert (picture[8:120, 248:] == 255).all()


def test_the_captions_are_below_their_images():
    predictions = np.zeros(20, int)
    predictions[0] = 9
    picture = np.asarray(draw_misclassified(IMAGES, np.zeros(20, int), predictions))
    assert (picture[124:154, 8:120] < 50).any()
    assert (picture[124:154, 130:] == 255).all()


def test_more_than_there_is_room_for_is_left_out():
    picture = np.asarray(draw_misclassified(IMAGES, np.zeros(20, int), np.ones(20, int)))
    assert picture[180, 660] == 111
    assert picture.shape == (320, 728)


def test_nothing_wrong_is_no_picture():
    assert draw_misclassified(IMAGES, np.zeros(20, int), np.zeros(20, int)) is None


def test_the_bytes_are_a_png():
    picture = draw_misclassified(IMAGES, np.zeros(20, int), np.ones(20, int))
    assert Image.open(BytesIO(as_png(picture))).size == picture.size


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_the_predictions_of_a_trainer_are_those_its_accuracy_is_made_of(make_job, trained, framework):
    predictions = load_file(trained(framework) / "probe.safetensors")["predictions"]
    labels, _ = read_idx(make_job().data / "t10k-labels-idx1-ubyte")  # the same in every job
    assert predictions.dtype == np.int64
    assert (predictions == labels).mean() == read_manifest(trained(framework)).metrics.accuracy
