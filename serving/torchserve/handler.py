"""The handler: what TorchServe's workers run. A copy of this file is in every archive; it imports only what every worker has.

The body of a request is one of
- a PNG or a JPEG of any mode and size: transparency is laid on black, colour becomes luma (ITU-R 601-2), and what is not 28x28 is
  scaled to it, each pixel the mean of those it covers;
- `.npy`: numbers of shape (28,28), (28,28,1), (N,28,28) or (N,28,28,1);
- 784 bytes: the pixels of one image, row by row;
- JSON: nested lists of one of those shapes, bare or as `{"instances": [...]}`.
Pixels are 0..255, the digit bright on dark. The reply says of one image `{"label", "probabilities", "logits", "version"}`, and of a
batch, even of one, `{"predictions": [...], "version"}`. Numbers are float32, exactly. A bad request gets a 400, and the requests that
TorchServe has put into the same batch their answers.
"""

import io
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

SIDE = 28
CLASSES = 10
IMAGES = 1024  # in one request
PICTURE = 1 << 22  # pixels: a tenth of a second to decode
FORMATS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
NPY = b"\x93NUMPY"

Model = Callable[[torch.Tensor], dict[str, torch.Tensor]]

_model: Model
_version: int


class BadRequest(Exception):
    """A request that its sender has to change; the text says how."""


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """Answer the requests of a batch, in their order; the first call of a worker, without data, loads the model."""
    if data is None:
        load(context)
        return None
    requests = [_decoded(request) for request in data]
    images = [request for request in requests if isinstance(request, np.ndarray)]
    outputs = iter(predict(np.concatenate([_batch(each) for each in images])) if images else ())
    replies = []
    for index, request in enumerate(requests):
        context.set_response_content_type(index, "application/json")
        if isinstance(request, BadRequest):
            if len(requests) == 1 and "host" not in map(str.lower, context.get_all_request_header(0)):  # gRPC sends no headers
                _refuse(request)
            context.set_response_status(400, "Bad Request", index)
            reply: dict[str, Any] = {"code": 400, "type": "BadRequest", "message": str(request)}
        elif request.ndim == 4:
            reply = {"predictions": [next(outputs) for _ in request], "version": _version}
        else:
            reply = {**next(outputs), "version": _version}
        replies.append(json.dumps(reply).encode())
    return replies


def _refuse(error: BadRequest) -> None:
    """Fail the whole batch: the only way to a gRPC status. TorchServe gives the status set for one request to REST alone."""
    from ts.utils.util import PredictionException

    raise PredictionException(str(error), 400)


def load(context: Any) -> None:
    """Load the TorchScript of the archive, and see that it answers as a model must.

    Raises:
        RuntimeError: it does not, or cannot be read.
    """
    global _model, _version
    manifest = context.manifest["model"]
    torch.set_num_threads(1)
    model = torch.jit.load(os.path.join(context.system_properties["model_dir"], manifest["serializedFile"]), map_location="cpu")
    _model = torch.jit.optimize_for_inference(model.eval())
    _version = int(manifest["modelVersion"])
    for count in (1, 2, 1, 2):  # the first answers take longer
        check(_run(np.zeros((count, SIDE, SIDE, 1), np.float32)), count)
    logging.getLogger().setLevel(logging.WARNING)  # or else the worker prints several lines a batch


def check(outputs: dict[str, np.ndarray], count: int) -> None:
    """See that outputs are what a model must give for `count` images.

    Raises:
        RuntimeError: they are not.
    """
    for name in ("logits", "probabilities"):
        if name not in outputs:
            raise RuntimeError(f"the model gives {sorted(outputs)}, not {name}")
        if (found := outputs[name]).shape != (count, CLASSES) or found.dtype != np.float32:
            raise RuntimeError(f"the model's {name} are {found.dtype} {found.shape}, not float32 ({count},{CLASSES})")
        if not np.isfinite(found).all():
            raise RuntimeError(f"the model's {name} of a black image are {found[0].tolist()}")


def predict(images: np.ndarray) -> list[dict[str, Any]]:
    """The answer to each of `images`, float32 (N,28,28,1)."""
    outputs = _run(images)
    rows = zip(outputs["logits"].argmax(1).tolist(), outputs["probabilities"].tolist(), outputs["logits"].tolist(), strict=True)
    return [{"label": label, "probabilities": probabilities, "logits": logits} for label, probabilities, logits in rows]


@torch.inference_mode()
def _run(images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: output.numpy() for name, output in _model(torch.from_numpy(images)).items()}


def _decoded(request: dict[str, Any]) -> np.ndarray | BadRequest:
    """The images of a request, or what is wrong with it."""
    try:
        values = [request[name] for name in ("body", "data") if name in request] or list(request.values())
        return decode(bytes(values[0]) if values else b"")
    except BadRequest as error:
        return error


def _batch(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else images[None]


def decode(body: bytes) -> np.ndarray:
    """The images in the body of a request: float32, pixels 0..255, (28,28,1) of one and (N,28,28,1) of a batch.

    Raises:
        BadRequest: there are none, or they cannot be used.
    """
    if not body:
        raise BadRequest("the body is empty: send a PNG, a JPEG, an .npy, 784 bytes or JSON")
    for magic, name in FORMATS.items():
        if body.startswith(magic):
            return _picture(body, name)[..., None]
    if body.startswith(NPY):
        return _pixels(_npy(body))
    if len(body) == SIDE * SIDE:
        return np.frombuffer(body, np.uint8).astype(np.float32).reshape(SIDE, SIDE, 1)
    if body.lstrip()[:1] in (b"[", b"{"):
        return _pixels(_lists(_json(body)))
    raise BadRequest(f"{len(body)} bytes that begin with {body[:8]!r} are no PNG, JPEG, .npy, 784 pixels or JSON: send one of them")


def _picture(body: bytes, name: str) -> np.ndarray:
    """A picture as float32 (28,28)."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(body), formats=(name,))  # reads the header alone
        if picture.width * picture.height > PICTURE:
            raise Image.DecompressionBombError(f"{picture.width}x{picture.height} pixels")
        if picture.mode != "L" or picture.has_transparency_data:
            picture = _grey(picture)
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(picture, np.float32)
    except Image.DecompressionBombError as error:  # Pillow has a limit too, far higher
        raise BadRequest(f"the {name} is too large ({error}), {PICTURE} pixels are the most: scale it down, 28x28 is enough") from error
    except Exception as error:  # whatever a decoder says of bytes that somebody has made up
        raise BadRequest(f"the {name} cannot be decoded ({error}): send a whole one") from error


def _grey(picture: Image.Image) -> Image.Image:
    """A picture in 256 shades."""
    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, "black")
        return Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
    if picture.mode.startswith("I"):  # 16 bits
        return Image.fromarray((np.asarray(picture, np.uint32) // 257).astype(np.uint8))
    return picture.convert("L")


def _npy(body: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(body), allow_pickle=False, max_header_size=1000)
    except Exception as error:  # as above
        raise BadRequest(f"the .npy cannot be read ({error}): write it with numpy.save") from error


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f'the JSON cannot be read ({error}): send nested lists of pixels, or {{"instances": [...]}}') from error


def _lists(value: Any) -> np.ndarray:
    """JSON's nested lists as an array; `instances` are a batch."""
    if isinstance(value, dict):
        if list(value) != ["instances"]:
            raise BadRequest(f'the JSON has the keys {sorted(value)[:5]}: send nested lists of pixels, or {{"instances": [...]}}')
        array = _lists(value["instances"])
        if array.ndim < 3 or array.shape[1:3] != (SIDE, SIDE):
            raise BadRequest(f"instances have the shape {array.shape}: send a list of images of (28,28) or (28,28,1)")
        return array
    try:
        return np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"the JSON's lists are not all of one shape ({error}): send 28 rows of 28 numbers") from error


def _pixels(array: np.ndarray) -> np.ndarray:
    """Numbers of one of the documented shapes as `decode` returns them."""
    if array.dtype.kind not in "uif":
        raise BadRequest(f"the pixels are {array.dtype}, not numbers: send 0..255")
    shape = array.shape
    images: np.ndarray
    if shape in ((SIDE, SIDE), (SIDE, SIDE, 1)):
        images = array.reshape(SIDE, SIDE, 1)
    elif shape[1:] in ((SIDE, SIDE), (SIDE, SIDE, 1)) and 0 < len(array) <= IMAGES:
        images = array.reshape(-1, SIDE, SIDE, 1)
    else:
        raise BadRequest(f"an array of shape {shape}: send (28,28), (28,28,1), (N,28,28) or (N,28,28,1), N from 1 to {IMAGES}")
    if not ((images >= 0) & (images <= 255)).all():  # no comparison with NaN holds
        raise BadRequest(f"the pixels go from {images.min()} to {images.max()}: send numbers from 0 to 255")
    return images.astype(np.float32)
