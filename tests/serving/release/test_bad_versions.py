"""Twenty bad versions, published by the real release on the real servers: none is promoted, and users do not notice."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.release.release import Cause, Release
from tests.serving.release.bad_versions import bytes_changed, replaced, tensorflow_model, torch_model, truncated, variant, without_lite
from windtunnel.aliases import Aliases
from windtunnel.errors import WindtunnelError

CAUSE = Cause("a test", "to see")
MODELS = {"libtorch": "model.pt", "tensorflow": "saved_model/saved_model.pb"}
BAD_MODELS = ["weights_nan", "wrong_signature", "wrong_outputs", "wrong_shape", "raises", "sleeps"]
KINDS = ["truncated", "bytes_changed", "wrong_labels", "changed_in_the_registry", *BAD_MODELS]


def spoil(kind, framework, other):
    model = MODELS[framework]
    if kind in BAD_MODELS:
        return torch_model(kind) if framework == "libtorch" else tensorflow_model(kind)
    if kind == "wrong_labels":
        return replaced("model.pt" if framework == "libtorch" else "saved_model", other)
    if kind == "changed_in_the_registry":
        return lambda bad: None
    change = {"truncated": truncated, "bytes_changed": bytes_changed}[kind]
    if framework == "libtorch":
        return change(model)
    return without_lite(change(model if kind == "truncated" else "saved_model/variables/variables.data-00000-of-00001"))


@pytest.mark.parametrize("framework", ["libtorch", "tensorflow"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_version_is_turned_away(house, trained, tmp_path, framework, kind):
    release = Release(house.settings, f"lenet5-{framework}")
    good = house.register(trained(framework))
    release.promote(good.version, CAUSE)
    before = Aliases(house.settings).of(release.name)

    directory = variant(trained(framework), tmp_path / "bad", spoil(kind, framework, trained(framework, 2)))
    bad = house.register(directory)
    if kind == "changed_in_the_registry":
        bytes_changed(MODELS[framework])(directory)
        changed = MODELS[framework].rpartition("/")
        house.mlflow.log_artifact(bad.mlflow_run, str(directory / MODELS[framework]), f"version/{changed[0]}".rstrip("/"))
    with pytest.raises(WindtunnelError, match=rf"{release.name}|has SHA-256"):
        release.promote(bad.version, CAUSE)

    assert Aliases(house.settings).of(release.name) == before
    served = release.server.served(release.name)
    assert (served.champion, bad.version in served.versions) == (good.version, False)
    golden = load_file(trained(framework) / "golden.safetensors")
    for protocol in ("rest", "grpc"):
        found = release.server.predict(release.name, golden["image"], protocol=protocol)["logits"]
        np.testing.assert_allclose(found, golden["logits"], rtol=1e-5, atol=1e-5)
