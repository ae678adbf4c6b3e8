"""Whatever is sent to the REST API, it is answered with a status of its own, and the server goes on."""

import pytest

from tests.fuzzing import fuzz, operation, path

pytestmark = pytest.mark.minutes(1)

NAMES = ("two_versions", "identity", "defaults", "{name}")
NAME = path("name", {"type": "string"})
WHICH = {"": [], "/versions/{version}": [path("version", {"type": "integer"})], "/labels/{label}": [path("label", {"type": "string"})]}
FEATURES = {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "array"}, {"type": "string"}]}}
SIGNATURE = {"enum": ["serving_default", "regress", "classify", "", "x"]}
PREDICT = {"type": "object", "properties": {"signature_name": SIGNATURE, "instances": {"type": "array"}, "inputs": {}}}
EXAMPLES = {
    "type": "object",
    "properties": {"signature_name": SIGNATURE, "context": FEATURES, "examples": {"type": "array", "items": FEATURES}},
}


def paths():
    """The paths of each model, with and without a version or a label."""
    found = {}
    for name in NAMES:
        for which, parameters in WHICH.items():
            given = [*parameters, NAME] if name == "{name}" else parameters
            base = f"/v1/models/{name}{which}"
            found |= {each: {"get": operation(*given)} for each in (base, f"{base}/metadata")}
            bodies = {"predict": PREDICT, "classify": EXAMPLES, "regress": EXAMPLES}
            for verb, schema in bodies.items():
                found[f"{base}:{verb}"] = {"post": operation(*given, bodies={"application/json": schema})}
    return found


def test_nothing_that_is_sent_ends_the_server(api, client):
    statuses = fuzz(api.url, paths())
    assert {200, 400, 404} <= statuses.keys()
    assert client.post("/v1/models/two_versions:predict", json={"instances": [1.0]}).json() == {"predictions": [3.5]}
