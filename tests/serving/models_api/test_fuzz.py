"""Whatever is sent to the service behind the page Models, it is answered with a status of its own, and the service goes on."""

import pytest

from serving.models_api.ask import KINDS
from tests.fuzzing import fuzz, operation, query
from tests.serving.models_api.running_service import service

pytestmark = pytest.mark.minutes(1)

KNOWN = "lenet5-tensorflow"
NAME = query("name", {"anyOf": [{"const": KNOWN}, {"type": "string"}]})
MODEL = query("model", {"anyOf": [{"enum": ["lenet5", "speech_commands"]}, {"type": "string"}]})
PAGE = [query(name, {"type": "integer"}) for name in ("limit", "before")]
SIDES = [query(side, {"anyOf": [{"const": f"{KNOWN}@1"}, {"type": "string", "pattern": "@[0-9]+$"}]}) for side in "ab"]
FILE = {kind: {"type": "string", "format": "binary"} for kind in (*KINDS, "text/plain")}
PATHS = {
    "/health": {"get": operation()},
    "/api/models": {"get": operation()},
    "/api/versions": {"get": operation(NAME, *PAGE)},
    "/api/history": {"get": operation(NAME, *PAGE)},
    "/api/compare": {"get": operation(*SIDES)},
    "/api/samples": {"get": operation(MODEL)},
    "/api/try": {"post": operation(MODEL, query("sample", {"type": "integer"}), bodies=FILE)},
}


def test_nothing_that_is_sent_ends_the_service(small_house, trained):
    small_house.register(trained("tensorflow", 1))
    with service(small_house.settings) as client:
        statuses = fuzz(str(client.base_url), PATHS)
        assert client.get("/health").json() == {"status": "ok"}
    assert {200, 400, 404} <= statuses.keys()
    assert "Traceback" not in (small_house.settings.home / "models_api.log").read_text()
