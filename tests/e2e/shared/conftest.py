"""The platform that tests share which do not harm it: starting one takes some 20 s, and champions to ask a run."""

import pytest

from tests.e2e.conftest import new_platform, up


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """The platform that tests share: up, and left as it is found."""
    with up(new_platform(tmp_path_factory.mktemp("platform"))) as shared:
        yield shared


@pytest.fixture(scope="module")
def champions(platform):
    """Something to ask: what the tests before have left, or else what a run releases."""
    if [known["served"] for known in platform.json("models")].count("to users") == 3:
        return
    run = platform.json("run", "lenet5", "--param", "samples=4000", "--param", "margin=1", "--param", "benchmark_seconds=0")
    assert {row["release"] for row in run["result"]["frameworks"].values()} == {"champion on torchserve", "champion on tfserving"}
