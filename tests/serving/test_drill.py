import shutil

import pytest

from serving import drill
from serving.release import Cause, Release
from windtunnel.errors import WindtunnelError


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
    said = drill.drill(releases, champion)
    assert said.startswith("fire drill passed: the broken version was turned away (")
    assert releases.server.published(releases.name) == before
    assert releases.server.served(releases.name).champion == champion


def test_a_drill_in_which_the_version_is_accepted_fails(release, monkeypatch):
    releases, champion = release
    monkeypatch.setattr(drill, "break_version", shutil.copytree)
    with pytest.raises(WindtunnelError, match=r"fire drill: .* was accepted; do not trust the verification"):
        drill.drill(releases, champion)
    assert releases.server.served(releases.name).champion == champion
