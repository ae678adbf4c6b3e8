"""Whatever users send to TorchServe, it is answered with a status of its own, and the server goes on."""

import pytest
from safetensors.numpy import load_file

from serving.backends.torchserve.tokens import authorization
from tests.fuzzing import fuzz, operation, path
from tests.serving.backends.torchserve.running_torchserve import npy

pytestmark = pytest.mark.minutes(1)

NUMBERS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
BODIES = {
    "application/json": {"anyOf": [NUMBERS, {}]},
    **{kind: {"type": "string", "format": "binary"} for kind in ("application/octet-stream", "image/png", "text/plain")},
}
NAME, VERSION = (path(name, {"type": "string"}) for name in ("name", "version"))
PATHS = {
    "/ping": {"get": operation()},
    "/predictions/lenet5-libtorch": {"post": operation(bodies=BODIES)},
    "/predictions/lenet5-libtorch/2.0": {"post": operation(bodies=BODIES)},
    "/predictions/lenet5-libtorch/{version}": {"post": operation(VERSION, bodies=BODIES)},
    "/predictions/{name}": {"post": operation(NAME, bodies=BODIES)},
}


def test_nothing_that_is_sent_ends_the_server(torchserve, trained):
    statuses = fuzz(str(torchserve.client.base_url), PATHS, authorization(torchserve.server.tokens.get("inference")))
    assert {200, 400, 404} <= statuses.keys()
    image = load_file(trained("libtorch", 1) / "golden.safetensors")["image"][0]
    assert torchserve.post("lenet5-libtorch", npy(image)).status_code == 200
