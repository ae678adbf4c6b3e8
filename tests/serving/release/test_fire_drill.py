import shutil

import pytest

from serving.release import fire_drill
from serving.release.release import Cause, Release
from tests.versions import make_version
from train_server.lenet5.model import Spec
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, read_manifest, verify_version


@pytest.fixture(scope="module", params=["libtorch", "tensorflow"])
def release(request, house, trained):
    """The releases of a model, and the version users get."""
    made = Release(house.settings, f"lenet5-{request.param}")
    number = house.register(trained(request.param)).version
    made.promote(number, Cause("a test", "to see"))
    return made, number


def test_a_drill_passes_and_leaves_nothing(release):
    releases, champion = release
    before = releases.server.published(releases.name)
    said = fire_drill.drill(releases, champion)
    assert said.startswith("fire drill passed: the broken version was rejected (")
    assert releases.server.published(releases.name) == before
    assert releases.server.served(releases.name).champion == champion


@pytest.mark.parametrize("weights", ["forest.onnx", "saved_model/variables/variables.data-00000-of-00001"])
def test_the_weights_of_the_declared_export_are_broken_and_the_manifest_matches(weights, tmp_path):
    good, broken = tmp_path / "good", tmp_path / "broken"
    make_version(good, "pytorch", Spec(dataset="mnist", mean=0.1, std=0.3, samples=64))
    (good / weights).parent.mkdir(parents=True, exist_ok=True)
    (good / weights).write_bytes(bytes(range(1, 91)))
    manifest = read_manifest(good)
    files = manifest.files | {weights: sha256(good / weights)}
    write_json(good / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))
    fire_drill.break_version(good, broken, weights.partition("/")[0])
    assert (broken / weights).read_bytes() == bytes([*range(1, 31), *[0] * 30, *range(61, 91)])
    assert verify_version(broken).files[weights] != files[weights]


def test_a_drill_in_which_the_version_is_accepted_fails(release, monkeypatch):
    releases, champion = release
    monkeypatch.setattr(fire_drill, "break_version", shutil.copytree)
    with pytest.raises(WindtunnelError, match=r"fire drill failed: .* was accepted\. Do not trust the verification"):
        fire_drill.drill(releases, champion)
    assert releases.server.served(releases.name).champion == champion
