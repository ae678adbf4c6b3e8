"""Switches under load on both servers, over both protocols: a short run of what `make bench-switch` measures."""

import pytest

from benchmarks.model_servers.version_switching import Switch, judge, measure
from serving.backends.base import PROTOCOLS, ServerError, Version
from serving.load.generators import Sample

SWITCHES = 10


@pytest.fixture(scope="module", params=["torchserve", "tfserving"])
def published(request, house, trained, any_name):
    """A server and two versions on it."""
    framework = {"torchserve": "pytorch", "tfserving": "tensorflow"}[request.param]
    server = house.server(request.param)
    versions = tuple(Version(f"switched-{framework}", number, trained(framework, seed=number)) for number in (1, 2))
    for version in versions:
        server.load(version)
    yield server, versions
    champion = server.served(versions[0].name).champion
    for version in sorted(versions, key=lambda each: each.number == champion):
        server.withdraw(version.name, version.number)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_user_notices_a_switch(published, protocol):
    outcome = measure(*published, protocol, SWITCHES)
    assert (outcome.switches, outcome.failed, outcome.wrong) == (SWITCHES, 0, 0)
    assert outcome.requests > 20  # on a quiet machine 50 a second
    assert outcome.steady_p99 > 0  # how they compare is for the benchmark to judge, which has the machine to itself
    assert outcome.during_p99 > 0


def sample(sent, answer, seconds=0.01, waited=0.0):
    return Sample(sent - waited, sent, sent + seconds, answer)


def test_the_judge_sees_failures_and_wrong_versions():
    """Version 2 from 10 to 10.5, version 1 from 20 to 20.5."""
    switches = [Switch(2, 10.0, 10.5), Switch(1, 20.0, 20.5)]
    steady = [sample(second / 10, 1) for second in range(90)]
    right = [
        sample(10.1, 1),
        sample(10.2, 2),
        sample(12.0, 2),
        sample(19.995, 1),
        sample(20.2, 2, seconds=0.2, waited=0.1),
        sample(21.0, 1),
    ]
    good = judge("a server", "rest", steady + right, switches)
    assert (good.failed, good.wrong, good.requests, good.during_switches) == (0, 0, 96, 4)
    assert good.steady_p99 == pytest.approx(0.01)
    assert good.during_p99 == pytest.approx(0.3, rel=0.03)
    assert good.promote_median == 0.5
    assert not good.passed  # 0.3 s is more than three times 0.01 s

    for bad, failed, wrong in (
        (sample(12.0, 1), 0, 1),
        (sample(21.0, 2), 0, 1),
        (sample(3.0, None), 1, 0),
        (sample(3.0, ServerError("")), 1, 0),
    ):
        found = judge("a server", "rest", [*steady, *right, bad], switches)
        assert (found.failed, found.wrong) == (failed, wrong)
