"""The handler with archives of several models, in this process, as a worker calls it."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from serving.backends.torchserve import handler
from tests.serving.backends.torchserve.bodies import as_json, npy

IMAGE = np.random.default_rng(1).integers(2, 256, (8, 12, 1), np.uint8)
COLOUR = np.random.default_rng(2).integers(2, 256, (4, 6, 3), np.uint8)
POINT = np.array([0.5, -2.0, 1e30, 3.0], np.float32)


class Sums(torch.nn.Module):
    """Scores, a row of three; the mean of each sample; and an output that is not declared."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        flat = x.flatten(1)
        return {"scores": flat[:, :3], "mean": flat.mean(1), "other": x}


class Digits(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = image.flatten(1)[:, 400:410]
        return {"probabilities": logits / 4, "logits": logits}


class Context:
    """What a worker tells the handler, and what the handler answers it."""

    def __init__(self, directory):
        self.manifest = {"model": {"serializedFile": "model.pt", "modelVersion": "7"}}
        self.system_properties = {"model_dir": str(directory)}
        self.statuses = {}

    def set_response_content_type(self, index, value):
        assert value == "application/json"

    def set_response_status(self, code, phrase, index):
        self.statuses[index] = code

    def get_all_request_header(self, index):
        return {"Host": "a"}


@pytest.fixture
def load(tmp_path):
    """Loads an archive with this declaration, and returns what answers bodies: the replies, and the statuses of errors."""

    def load(shape, codec, module=None, outputs=(("scores", (3,)), ("mean", ()))):
        torch.jit.script(module or Sums()).save(str(tmp_path / "model.pt"))
        declared = {
            "input": {"name": "x", "shape": shape, "codec": codec},
            "outputs": [{"name": name, "shape": row} for name, row in outputs],
        }
        (tmp_path / "model.json").write_text(json.dumps(declared))
        context = Context(tmp_path)
        assert handler.handle(None, context) is None

        def ask(*bodies):
            replies = handler.handle([{"body": body} for body in bodies], context)
            return [json.loads(reply) for reply in replies], context.statuses

        return SimpleNamespace(ask=ask, raw=lambda body: handler.handle([{"body": body}], context)[0])

    return load


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def test_the_replies_of_lenet5_are_what_they_were(load):
    digits = load((28, 28, 1), "image", Digits(), (("logits", (10,)), ("probabilities", (10,))))
    pixels = np.random.default_rng(3).integers(0, 256, (28, 28), np.uint8)
    logits = pixels.reshape(-1)[400:410].astype(np.float32)
    answer = {
        "label": int(logits.argmax()),
        "probabilities": (logits / 4).tolist(),
        "logits": logits.tolist(),
    }
    assert digits.raw(png(pixels)) == as_json({**answer, "version": 7})
    assert digits.raw(npy(pixels[None])) == as_json({"predictions": [answer], "version": 7})


@pytest.mark.parametrize(
    ("shape", "body", "sample"),
    [
        ((4,), npy(POINT), POINT),
        ((4,), npy(POINT.astype(np.float64)), POINT),
        ((4,), as_json(POINT.tolist()), POINT),
        ((2, 2), npy(POINT.reshape(2, 2)), POINT),
        ((8, 12, 1), png(IMAGE[..., 0]), IMAGE),
        ((8, 12, 1), png(IMAGE[..., 0].repeat(3, 0).repeat(3, 1)), IMAGE),
        ((8, 12, 1), IMAGE.tobytes(), IMAGE),
        ((8, 12, 1), npy(IMAGE[..., 0]), IMAGE),
        ((8, 12, 1), as_json(IMAGE.tolist()), IMAGE),
        ((4, 6, 3), png(COLOUR), COLOUR),
        ((4, 6, 3), COLOUR.tobytes(), COLOUR),
        ((4, 6, 3), npy(COLOUR), COLOUR),
    ],
)
def test_one_sample_of_any_shape(load, shape, body, sample):
    (reply,), statuses = load(shape, "image" if len(shape) == 3 else "array").ask(body)
    numbers = sample.reshape(-1).astype(np.float32)
    assert statuses == {}
    assert list(reply) == ["label", "mean", "scores", "version"]
    assert (reply["label"], reply["scores"], reply["version"]) == (int(numbers[:3].argmax()), numbers[:3].tolist(), 7)
    assert reply["mean"] == pytest.approx(numbers.mean(), rel=1e-5)


@pytest.mark.parametrize("encode", [npy, lambda batch: as_json(batch.tolist()), lambda batch: as_json({"instances": batch.tolist()})])
def test_batches_and_single_samples_share_a_batch(load, encode):
    points = np.stack([POINT, POINT[::-1]])
    replies, statuses = load((4,), "array").ask(encode(points), b"hello", npy(POINT))
    assert [len(replies[0]["predictions"]), replies[2]["label"], statuses] == [2, 2, {1: 400}]
    assert [prediction["scores"] for prediction in replies[0]["predictions"]] == [point[:3].tolist() for point in points]


@pytest.mark.parametrize(
    ("shape", "codec", "body", "says"),
    [
        ((4,), "array", b"", "the body is empty. Send an .npy or JSON"),
        ((4,), "array", png(IMAGE[..., 0]), "unknown format: found"),
        ((4,), "array", bytes(4), "unknown format: found 4 bytes that begin with b'\\x00\\x00\\x00\\x00'. Send .npy or JSON"),
        ((4,), "array", npy(POINT[:3]), "wrong shape: found (3,), expected (4) or (N,4) with N from 1 to 1024"),
        ((4,), "array", npy(np.zeros((0, 4))), "wrong shape: found (0, 4)"),
        ((4,), "array", npy(np.zeros((1025, 4))), "wrong shape: found (1025, 4)"),
        ((2, 2), "array", npy(np.zeros((2, 2, 1))), "wrong shape: found (2, 2, 1), expected (2,2) or (N,2,2) with N from 1 to 1024"),
        (
            (4,),
            "array",
            npy(POINT * np.nan),
            "the numbers are out of range: found nan to nan, expected finite numbers that float32 can hold",
        ),
        ((4,), "array", as_json([1, 2, 3, 1e39]), "the numbers are out of range: found 1.0 to 1e+39"),
        ((4,), "array", npy(np.array(["a"] * 4)), "the numbers have the wrong type: found <U1, expected finite numbers"),
        ((4,), "array", as_json([True] * 4), "the numbers have the wrong type: found bool"),
        ((4,), "array", as_json([[1, 2], [3]]), "the JSON's lists do not all have the same shape"),
        (
            (4,),
            "array",
            as_json({"inputs": [1]}),
            "the JSON has the keys ['inputs']. Send nested lists of numbers, or {\"instances\": [...]}",
        ),
        ((4,), "array", as_json({"instances": [1, 2]}), "instances have the wrong shape: found (2,), expected a list of samples of (4)"),
        ((8, 12, 1), "image", b"", "the body is empty. Send a PNG, a JPEG, an .npy, 96 bytes or JSON"),
        ((8, 12, 1), "image", bytes(97), "Send PNG, JPEG, .npy, 96 pixels or JSON"),
        ((8, 12, 1), "image", npy(np.zeros((12, 8))), "expected (8,12), (8,12,1), (N,8,12) or (N,8,12,1) with N from 1 to 1024"),
        ((8, 12, 1), "image", as_json([[1, 2], [3]]), "Send 8 rows of 12 numbers"),
        ((8, 12, 1), "image", npy(IMAGE / 255), "Do not divide them by 255"),
        ((4, 6, 3), "image", npy(np.zeros((4, 6))), "wrong shape: found (4, 6), expected (4,6,3) or (N,4,6,3) with N from 1 to 1024"),
        ((4, 6, 3), "image", bytes(73), "Send PNG, JPEG, .npy, 72 bytes or JSON"),
        ((4, 6, 3), "image", npy(np.full((4, 6, 3), 256)), "the pixels are out of range: found 256 to 256, expected 0 to 255"),
    ],
)
def test_what_is_of_another_shape_or_codec_is_refused(load, shape, codec, body, says):
    (reply,), statuses = load(shape, codec).ask(body)
    assert (statuses, reply["code"]) == ({0: 400}, 400)
    assert says in reply["message"]


def test_a_form_with_two_arrays_is_refused(load):
    load((4,), "array")
    context = Context("")
    (reply,) = handler.handle([{"a": npy(POINT), "b": as_json(POINT.tolist()), "note": b"hello"}], context)
    assert json.loads(reply)["message"] == "the form has 2 arrays: a, b. Send one array per request, or an .npy of many"
    (reply,) = handler.handle([{"a": npy(POINT), "note": b"hello"}], context)
    assert json.loads(reply)["label"] == 2


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": x[:, :3], "mean": x[:, 0] / x[:, 0]}


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ((("label", (3,)),), r"the model has no output label: found \['mean', 'scores'\]"),
        ((("scores", (4,)),), r"the model's scores are float32 \(1, 3\), expected float32 \(1,4\)"),
        ((("scores", ()),), r"the model's scores are float32 \(1, 3\), expected float32 \(1\)"),
        ((("scores", (None, 2)),), r"the model's scores are float32 \(1, 3\), expected float32 \(1,any,2\)"),
        ((("scores", (None,)), ("mean", ())), r"the model's mean of zeros are not finite: found nan"),
    ],
)
def test_an_archive_whose_model_answers_otherwise_than_declared_is_not_loaded(load, outputs, says):
    with pytest.raises(RuntimeError, match=says):
        load((4,), "array", Broken(), outputs)
