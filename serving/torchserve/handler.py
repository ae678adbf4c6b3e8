"""The handler: what TorchServe's workers run. A copy of this file is in every archive; it imports only what every worker has.

`serving/images.py` reads files by the same rule, where no torch may be: the functions that need it import it.

The body of a request is one of
- a PNG or a JPEG of any mode and size: it is turned as its EXIF says, transparency is laid on black, colour becomes luma (ITU-R 601-2),
  and what is not 28x28 is scaled to it, each pixel the mean of those it covers;
- `.npy`: numbers of shape (28,28), (28,28,1), (N,28,28) or (N,28,28,1);
- 784 bytes: the pixels of one image, row by row;
- JSON: nested lists of one of those shapes, bare or as `{"instances": [...]}`.
Pixels are 0..255, the digit bright on dark; a picture of one shade, and pixels that were divided by 255, are refused. The reply says
of one image `{"label", "probabilities", "logits", "version"}`, and of a batch, even of one, `{"predictions": [...], "version"}`. Numbers
are float32, exactly. A bad request gets a 400, and the requests that TorchServe has put into the same batch their answers.
"""

import io
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

if TYPE_CHECKING:
    import torch

SIDE = 28
CLASSES = 10
IMAGES = 1024  # in one request
PICTURE = 1 << 22  # pixels: a tenth of a second to decode
FORMATS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
NPY = b"\x93NUMPY"
DIVIDED = "the pixels of an image go from 0 to 1: send numbers from 0 to 255, not divided by 255"
URLENCODED = "application/x-www-form-urlencoded"
FORM = (
    f"the body came as a form ({URLENCODED}), as curl -d and --data-binary send it, and TorchServe took it apart: "
    "send it with -T FILE, or add -H 'Content-Type: application/octet-stream'"
)

Model = Callable[["torch.Tensor"], dict[str, "torch.Tensor"]]

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
            headers = {name.lower(): value for name, value in context.get_all_request_header(index).items()}
            if len(requests) == 1 and "host" not in headers:  # gRPC sends no headers
                _refuse(request)
            context.set_response_status(400, "Bad Request", index)
            message = f"{FORM}; found: {request}" if str(headers.get("content-type")).startswith(URLENCODED) else str(request)
            reply: dict[str, Any] = {"code": 400, "type": "BadRequest", "message": message}
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
    import torch

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


def _run(images: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    with torch.inference_mode():
        return {name: output.numpy() for name, output in _model(torch.from_numpy(images)).items()}


def _decoded(request: dict[str, Any]) -> np.ndarray | BadRequest:
    """The images of a request, or what is wrong with it. Each part of a form has a name, any other body is called `body`."""
    try:
        if len(request) > 1 and len(parts := [name for name, value in request.items() if _is_image(bytes(value))]) > 1:
            raise BadRequest(f"the form has {len(parts)} pictures, {', '.join(parts)}: send one picture a request, or an .npy of many")
        values = [request[name] for name in ("body", "data") if name in request] or list(request.values())
        return decode(bytes(values[0]) if values else b"")
    except BadRequest as error:
        return error


def _is_image(part: bytes) -> bool:
    """Whether a part of a form holds images, or what was meant as one; the others are notes."""
    try:
        decode(part)
    except BadRequest:
        return part.startswith((*FORMATS, NPY))
    return True


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
            return _picture(body, name)
    if body.startswith(NPY):
        return _pixels(_npy(body))
    if len(body) == SIDE * SIDE:
        return _pixels(np.frombuffer(body, np.uint8).reshape(SIDE, SIDE))
    if body.lstrip()[:1] in (b"[", b"{"):
        return _pixels(_lists(_json(body)))
    raise BadRequest(f"{len(body)} bytes that begin with {body[:8]!r} are no PNG, JPEG, .npy, 784 pixels or JSON: send one of them")


def _picture(body: bytes, name: str) -> np.ndarray:
    """A picture as float32 (28,28,1)."""
    try:
        opened = Image.open(io.BytesIO(body), formats=(name,))  # reads the header alone
        if opened.width * opened.height > PICTURE:
            raise Image.DecompressionBombError(f"{opened.width}x{opened.height} pixels")
        picture = _grey(opened) if opened.mode != "L" or opened.has_transparency_data else opened
        picture.load()
        if picture.info:
            with suppress(Exception):  # whatever Pillow says of EXIF that cannot be read: a viewer shows the picture
                ImageOps.exif_transpose(picture, in_place=True)
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
        pixels = np.asarray(picture)
    except Image.DecompressionBombError as error:  # Pillow has a limit too, far higher
        raise BadRequest(f"the {name} is too large ({error}), {PICTURE} pixels are the most: scale it down, 28x28 is enough") from error
    except Exception as error:  # whatever a decoder says of bytes that somebody has made up
        raise BadRequest(f"the {name} cannot be decoded ({error}): send a whole one") from error
    darkest, brightest = pixels.min(), pixels.max()
    if darkest == brightest:
        problem = f"the {name} has one shade, {brightest}, once its transparency is laid on black"
        raise BadRequest(f"{problem}: draw the digit bright, or the background opaque")
    if brightest == 1:
        raise BadRequest(DIVIDED)
    return pixels.astype(np.float32)[..., None]


def _grey(picture: ImageFile.ImageFile) -> Image.Image:
    """A picture in 256 shades, with its EXIF."""
    stored = picture.tile[0].args if picture.tile else ""  # how the file has the pixels, such as "L;4"
    if picture.mode.startswith("I"):  # 16 bits; a shade of them may be transparent
        shades = np.asarray(picture, np.uint32)
        grey = Image.fromarray(np.where(shades == picture.info.get("transparency"), 0, shades // 257).astype(np.uint8))
    elif picture.has_transparency_data:
        if (transparent := _transparent(picture.info.get("transparency"), stored)) is not None:
            picture.info["transparency"] = transparent
        black = Image.new("RGBA", picture.size, "black")
        grey = Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
    else:
        grey = picture.convert("L")
    grey.info = picture.info
    return grey


def _transparent(colour: Any, stored: Any) -> Any:
    """The colour that a PNG says is transparent, in 8 bits a channel: Pillow scales the pixels to them and leaves this as it is stored."""
    if isinstance(colour, int):
        return colour * {"L;2": 85, "L;4": 17}.get(stored, 1)
    return tuple(channel >> 8 for channel in colour) if stored == "RGB;16B" else colour


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
    brightest = images.max(axis=(1, 2, 3)) if images.ndim == 4 else images.max()
    if ((brightest > 0) & (brightest <= 1)).any():
        raise BadRequest(DIVIDED)
    return images.astype(np.float32)
