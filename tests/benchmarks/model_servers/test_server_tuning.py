import json
from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks.model_servers.server_tuning import CONCURRENCIES, STOCK, Contestant, compare, summarise, tabulate, tfserving, torchserve
from serving.backends.base import Version
from windtunnel.tables import render


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """Three of the five servers, measured for a second each."""
    home = tmp_path_factory.mktemp("benchmark")
    pytorch, tensorflow = (Version(f"lenet5-{framework}", 1, trained(framework)) for framework in ("pytorch", "tensorflow"))
    with ExitStack() as servers:
        contestants = [
            *servers.enter_context(torchserve(pytorch, home / "0", STOCK)),
            *servers.enter_context(tfserving(tensorflow, home / "1", STOCK)),
            *servers.enter_context(tfserving(tensorflow, home / "2", "tuned")),
        ]
        compare(contestants, rounds=1, seconds=1)
        yield contestants


def test_a_round_measures_every_server_at_every_concurrency(measured):
    assert [failure for each in measured for failure in each.failures] == []
    rows = summarise(measured)
    kinds = [("torchserve", STOCK, "REST, PNG"), *(("tfserving", each, of) for each in (STOCK, "tuned") for of in ("REST, JSON", "gRPC"))]
    assert [(row["server"], row["configuration"], row["protocol"], row["concurrency"]) for row in rows] == [
        (*kind, concurrency) for kind in kinds for concurrency in CONCURRENCIES
    ]
    stock = {(row["protocol"], row["concurrency"]): row["rates"][0] for row in rows if row["configuration"] == STOCK}
    for row in rows:
        (rate,) = row["rates"]
        assert 0 < rate < 100_000  # the unit; how fast is for the benchmark to say
        assert row["ratio"] == pytest.approx(rate / stock[row["protocol"], row["concurrency"]])
    assert json.loads(json.dumps(rows)) == rows
    text = render(tabulate(rows, 1))
    assert all(word in text for kind in kinds for word in kind)


@pytest.mark.parametrize("protocol", ["REST, JSON", "gRPC"])
def test_a_wrong_label_is_a_failure_and_gives_no_figure(measured, protocol):
    (right,) = (each for each in measured if (each.configuration, each.protocol) == ("tuned", protocol))
    labels = [*right.requests.labels[:-1], ((right.requests.labels[-1][0] + 1) % 10,)]
    wrong = Contestant(right.server, right.configuration, right.protocol, replace(right.requests, labels=labels))
    wrong.measure(10, 1)
    assert wrong.rates[10] == [None]
    assert len(wrong.failures) == 1
    stock = Contestant(right.server, STOCK, right.protocol, right.requests, {each: [100.0] for each in CONCURRENCIES})
    wrong.rates.update({each: [None] for each in CONCURRENCIES})
    row = summarise([stock, wrong])[-1]
    assert (row["rates"], row["ratio"]) == ([], None)
    assert "failed" in render(tabulate([row], 1))
