"""The handler that TorchServe's workers run. Every archive contains a copy of this file; it imports only what every worker has.

The archive's `model.json` declares the input and the outputs of the model. `serving/backends/images.py` and `arrays.py` read files by the
same rules without torch, so torch is imported only inside the functions that need it.

The body of a request is one of
- `.npy`: numbers of the input's shape, or of (N, shape) for a batch;
- JSON: nested lists of one of those shapes, bare or as `{"instances": [...]}`.
Numbers must be finite. If the input is an image, of (height, width, 1) or (height, width, 3), they are pixels 0..255; a picture of one
shade, and pixels that were divided by 255, are rejected. A grey image may lack its last dimension, and the body may also be
- a PNG or a JPEG of any mode and size: EXIF orientation is applied, transparency is put on black, colour becomes luma (ITU-R 601-2) unless
  the input is coloured, and another size is scaled to the input's, each pixel the mean of the pixels it covers;
- bytes: the pixels of one image, row by row.
The reply for one sample is `{"label", …, "version"}` with every declared output by name, such as `probabilities` and `logits`; for a batch,
even of one, it is `{"predictions": [...], "version"}`. The label is the arg-max of the sample's row of the first declared output; of a row
with one number it is 0. Numbers are exact float32. A bad request gets a 400; other requests in the same batch get their answers.
"""

import io
import json
import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

DECLARATION = "model.json"
SAMPLES = 1024  # per request
PICTURE = 1 << 22  # pixels; decoding takes a tenth of a second
FORMATS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
NPY = b"\x93NUMPY"
DIVIDED = "the pixels of an image have the wrong range: found 0..1, expected 0..255. Do not divide them by 255"
URLENCODED = "application/x-www-form-urlencoded"
FORM = (
    f"the body is a form ({URLENCODED}), as curl -d and --data-binary send it, and TorchServe has parsed it. "
    "Send it with -T FILE, or add -H 'Content-Type: application/octet-stream'"
)

Shape = tuple[int, ...]

_model: "Model"


class BadRequest(Exception):
    """A request that the client must change; the message says how."""


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """Answer the requests of a batch, in their order. A worker's first call has no data and loads the model."""
    global _model
    if data is None:
        _model = Model(context)
        logging.getLogger().setLevel(logging.WARNING)  # otherwise the worker prints several lines per batch
        return None
    return _model.handle(data, context)


class Model:
    """The model of an archive."""

    def __init__(self, context: Any) -> None:
        """Load the archive's TorchScript, and check that it answers as its declaration says.

        Raises:
            RuntimeError: it cannot be loaded, or its answers are invalid.
        """
        import torch

        manifest, directory = context.manifest["model"], context.system_properties["model_dir"]
        with open(os.path.join(directory, DECLARATION), encoding="utf-8") as file:
            declared = json.load(file)
        self.decoder = make_decoder(declared["input"]["codec"], tuple(declared["input"]["shape"]))
        self.outputs = {output["name"]: tuple(output["shape"]) for output in declared["outputs"]}
        self.version = int(manifest["modelVersion"])
        torch.set_num_threads(1)
        model = torch.jit.load(os.path.join(directory, manifest["serializedFile"]), map_location="cpu")
        self._compute: Callable[[Any], dict[str, Any]] = torch.jit.optimize_for_inference(model.eval())
        for count in (1, 2, 1, 2):  # warm-up: the first answers take longer
            self.check(self._run(np.zeros((count, *self.decoder.shape), np.float32)), count)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer the requests of a batch, in their order."""
        requests = [self._decoded(request) for request in data]
        samples = [request for request in requests if isinstance(request, np.ndarray)]
        outputs = iter(self.predict(np.concatenate([self.decoder.batch(each) for each in samples])) if samples else ())
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
            elif self.decoder.is_batch(request):
                reply = {"predictions": [next(outputs) for _ in request], "version": self.version}
            else:
                reply = {**next(outputs), "version": self.version}
            replies.append(json.dumps(reply).encode())
        return replies

    def check(self, outputs: dict[str, np.ndarray], count: int) -> None:
        """Check that outputs are valid for `count` samples that are zeros.

        Raises:
            RuntimeError: they are not.
        """
        for name, row in self.outputs.items():
            if name not in outputs:
                raise RuntimeError(f"the model has no output {name}: found {sorted(outputs)}")
            found, expected = outputs[name], (count, *row)
            fits = len(found.shape) == len(expected) and all(size in (None, each) for each, size in zip(found.shape, expected, strict=True))
            if not fits or found.dtype != np.float32:
                raise RuntimeError(f"the model's {name} are {found.dtype} {found.shape}, expected float32 {_text(expected)}")
            if not np.isfinite(found).all():
                raise RuntimeError(f"the model's {name} of {self.decoder.zeros} are not finite: found {found[0].tolist()}")

    def predict(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Return the answer to each of `samples`, float32 (N, shape)."""
        outputs, first = self._run(samples), next(iter(self.outputs))
        columns = {"label": outputs[first].reshape(len(samples), -1).argmax(1).tolist()}
        columns |= {name: outputs[name].tolist() for name in reversed(self.outputs)}  # the order that replies have always had
        return [dict(zip(columns, answer, strict=True)) for answer in zip(*columns.values(), strict=True)]

    def _run(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            return {name: output.numpy() for name, output in self._compute(torch.from_numpy(samples)).items()}

    def _decoded(self, request: dict[str, Any]) -> np.ndarray | BadRequest:
        """Return the samples of a request, or the error. Each part of a form has a name; any other body is called `body`."""
        meant, thing = self.decoder.is_meant, self.decoder.thing
        try:
            if len(request) > 1 and len(parts := [name for name, value in request.items() if meant(bytes(value))]) > 1:
                raise BadRequest(
                    f"the form has {len(parts)} {thing}s: {', '.join(parts)}. Send one {thing} per request, or an .npy of many"
                )
            values = [request[name] for name in ("body", "data") if name in request] or list(request.values())
            return self.decoder.decode(bytes(values[0]) if values else b"")
        except BadRequest as error:
            return error


def _refuse(error: BadRequest) -> None:
    """Fail the whole batch: the only way to set a gRPC status. TorchServe passes the status of a single request to REST only."""
    from ts.utils.util import PredictionException

    raise PredictionException(str(error), 400)


class Decoder:
    """Decodes the bodies of requests: numbers of the shape of a sample.

    Attributes:
        shape: of a sample.
        shapes: of a sample as clients may send it, the shortest first.
    """

    magic: tuple[bytes, ...] = (NPY,)
    samples, numbers, thing, zeros = "samples", "numbers", "array", "zeros"  # the words of messages
    formats, short_formats = "an .npy or JSON", ".npy or JSON"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.shapes: tuple[Shape, ...] = (shape,)
        self.rows = f"nested lists of shape {_text(shape)}"

    def decode(self, body: bytes) -> np.ndarray:
        """Decode a body into samples: float32, of `shape` for one and (N, shape) for a batch.

        Raises:
            BadRequest: there are no samples, or they are invalid.
        """
        if not body:
            raise BadRequest(f"the body is empty. Send {self.formats}")
        if body.startswith(NPY):
            return self._checked(_npy(body))
        if body.lstrip()[:1] in (b"[", b"{"):
            return self._checked(self._lists(self._json(body)))
        found = f"found {len(body)} bytes that begin with {body[:8]!r}"
        raise BadRequest(f"unknown format: {found}. Send {self.short_formats}")

    def is_batch(self, samples: np.ndarray) -> bool:
        """Return whether the result of `decode` is a batch."""
        return samples.ndim > len(self.shape)

    def batch(self, samples: np.ndarray) -> np.ndarray:
        """Return the result of `decode` as a batch."""
        return samples if self.is_batch(samples) else samples[None]

    def is_meant(self, part: bytes) -> bool:
        """Return whether a form part contains samples or was meant to; other parts are ignored."""
        try:
            self.decode(part)
        except BadRequest:
            return part.startswith(self.magic)
        return True

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the JSON cannot be read ({error}). {self._send_lists}") from error

    def _lists(self, value: Any) -> np.ndarray:
        """Convert JSON's nested lists to an array; `instances` are a batch."""
        if isinstance(value, dict):
            if list(value) != ["instances"]:
                raise BadRequest(f"the JSON has the keys {sorted(value)[:5]}. {self._send_lists}")
            array = self._lists(value["instances"])
            if array.shape[1 : 1 + len(self.shapes[0])] != self.shapes[0]:
                expected = f"a list of {self.samples} of {' or '.join(map(_text, self.shapes))}"
                raise BadRequest(f"instances have the wrong shape: found {array.shape}, expected {expected}")
            return array
        try:
            return np.asarray(value)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"the JSON's lists do not all have the same shape ({error}). Send {self.rows}") from error

    @property
    def _send_lists(self) -> str:
        return f'Send nested lists of {self.numbers}, or {{"instances": [...]}}'

    def _checked(self, array: np.ndarray) -> np.ndarray:
        """Convert numbers of one of the documented shapes to what `decode` returns."""
        if array.dtype.kind not in "uif":
            raise BadRequest(f"the {self.numbers} have the wrong type: found {array.dtype}, expected {self._range}")
        if array.shape in self.shapes:
            return self._in_range(array.reshape(self.shape))
        if array.shape[1:] in self.shapes and 0 < len(array) <= SAMPLES:
            return self._in_range(array.reshape(-1, *self.shape))
        *most, last = [*map(_text, self.shapes), *(_text(("N", *shape)) for shape in self.shapes)]
        raise BadRequest(f"wrong shape: found {array.shape}, expected {', '.join(most)} or {last} with N from 1 to {SAMPLES}")

    @property
    def _range(self) -> str:
        return "finite numbers"

    def _in_range(self, samples: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = samples.astype(np.float32)
        if not np.isfinite(converted).all():
            found = f"found {samples.min()} to {samples.max()}"
            raise BadRequest(f"the numbers are out of range: {found}, expected finite numbers that float32 can hold")
        return converted


class ImageDecoder(Decoder):
    """Decodes pixels 0..255, of (height, width, 1) or (height, width, 3)."""

    magic = (*FORMATS, NPY)
    samples, numbers, thing, zeros = "images", "pixels", "picture", "a black image"

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        height, width, channels = shape
        self.size = math.prod(shape)
        if channels == 1:
            self.shapes = ((height, width), shape)
            self.rows = f"{height} rows of {width} numbers"
        self.mode = "L" if channels == 1 else "RGB"
        self.formats = f"a PNG, a JPEG, an .npy, {self.size} bytes or JSON"
        self.short_formats = f"PNG, JPEG, .npy, {self.size} {'pixels' if channels == 1 else 'bytes'} or JSON"

    def decode(self, body: bytes) -> np.ndarray:
        """Decode a body into images, as `Decoder.decode`."""
        for magic, name in FORMATS.items():
            if body.startswith(magic):
                return self._picture(body, name)
        if len(body) == self.size and not body.startswith(NPY):
            return self._checked(np.frombuffer(body, np.uint8).reshape(self.shape))
        return super().decode(body)

    @property
    def _range(self) -> str:
        return "numbers 0..255"

    def _in_range(self, samples: np.ndarray) -> np.ndarray:
        if not ((samples >= 0) & (samples <= 255)).all():  # also rejects NaN
            raise BadRequest(f"the pixels are out of range: found {samples.min()} to {samples.max()}, expected 0 to 255")
        brightest = samples.max(axis=(-3, -2, -1))
        if ((brightest > 0) & (brightest <= 1)).any():
            raise BadRequest(DIVIDED)
        return samples.astype(np.float32)

    def _picture(self, body: bytes, name: str) -> np.ndarray:
        """Decode a picture."""
        height, width, _ = self.shape
        try:
            opened = Image.open(io.BytesIO(body), formats=(name,))  # reads only the header
            if opened.width * opened.height > PICTURE:
                raise Image.DecompressionBombError(f"{opened.width}x{opened.height} pixels")
            picture = _converted(opened, self.mode) if opened.mode != self.mode or opened.has_transparency_data else opened
            picture.load()
            if picture.info:
                with suppress(Exception):  # ignore invalid EXIF, as viewers do
                    ImageOps.exif_transpose(picture, in_place=True)
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BOX)
            pixels = np.asarray(picture)
        except Image.DecompressionBombError as error:  # Pillow has a limit too, far higher
            step = f"Scale it down to {width}x{height}"
            raise BadRequest(f"the {name} is too large ({error}): expected at most {PICTURE} pixels. {step}") from error
        except Exception as error:  # decoders raise anything for malformed input
            raise BadRequest(f"the {name} cannot be decoded ({error}). Send a complete file") from error
        darkest, brightest = pixels.min(), pixels.max()
        if darkest == brightest:
            problem = f"the {name} has only one shade, {brightest}, after its transparency was put on black"
            raise BadRequest(f"{problem}. Draw in a bright colour, or make the background opaque")
        if brightest == 1:
            raise BadRequest(DIVIDED)
        return pixels.astype(np.float32).reshape(self.shape)


def make_decoder(codec: str, shape: Shape) -> Decoder:
    """Return the decoder of an input, as `windtunnel.model.Input` declares it."""
    return (ImageDecoder if codec == "image" else Decoder)(shape)


def _converted(picture: ImageFile.ImageFile, mode: str) -> Image.Image:
    """Convert a picture to 8 bits per channel, `L` or `RGB`, keeping its EXIF."""
    stored = picture.tile[0].args if picture.tile else ""  # the pixel format in the file, such as "L;4"
    if picture.mode.startswith("I"):  # 16 bits; one of the shades may be transparent
        shades = np.asarray(picture, np.uint32)
        converted = Image.fromarray(np.where(shades == picture.info.get("transparency"), 0, shades // 257).astype(np.uint8)).convert(mode)
    elif picture.has_transparency_data:
        if (transparent := _transparent(picture.info.get("transparency"), stored)) is not None:
            picture.info["transparency"] = transparent
        black = Image.new("RGBA", picture.size, "black")
        converted = Image.alpha_composite(black, picture.convert("RGBA")).convert(mode)
    else:
        converted = picture.convert(mode)
    converted.info = picture.info
    return converted


def _transparent(colour: Any, stored: Any) -> Any:
    """Return the transparent colour of a PNG with 8 bits per channel. Pillow scales the pixels to 8 bits but not this colour."""
    if isinstance(colour, int):
        return colour * {"L;2": 85, "L;4": 17}.get(stored, 1)
    return tuple(channel >> 8 for channel in colour) if stored == "RGB;16B" else colour


def _npy(body: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(body), allow_pickle=False, max_header_size=1000)
    except Exception as error:  # as above
        raise BadRequest(f"the .npy cannot be read ({error}). Write it with numpy.save") from error


def _text(shape: tuple[Any, ...]) -> str:
    return f"({','.join('any' if size is None else str(size) for size in shape)})"
