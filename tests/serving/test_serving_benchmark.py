import json
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from serving.benchmark import CONCURRENCIES, STOCK, Contestant, Rest, compare, summarise, tabulate, tfserving, torchserve
from serving.load import OpenLoop, ab
from serving.server import Version
from windtunnel.errors import WindtunnelError
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
        assert 10 < rate < 100_000  # the unit; how fast is for the benchmark to say
        assert row["ratio"] == pytest.approx(rate / stock[row["protocol"], row["concurrency"]])
    assert json.loads(json.dumps(rows)) == rows
    text = render(tabulate(rows, 1))
    assert all(word in text for kind in kinds for word in kind)


@pytest.mark.parametrize("protocol", ["REST, JSON", "gRPC"])
def test_a_wrong_label_is_a_failure_and_gives_no_figure(measured, protocol):
    (right,) = (each for each in measured if (each.configuration, each.protocol) == ("tuned", protocol))
    labels = right.labels.copy()
    labels[-1] = (labels[-1] + 1) % 10
    wrong = Contestant(right.server, right.configuration, right.protocol, right.ask, labels)
    wrong.measure(10, 1)
    assert wrong.rates[10] == [None]
    assert len(wrong.failures) == 1
    stock = Contestant(right.server, STOCK, right.protocol, right.ask, labels, {each: [100.0] for each in CONCURRENCIES})
    wrong.rates.update({each: [None] for each in CONCURRENCIES})
    row = summarise([stock, wrong])[-1]
    assert (row["rates"], row["ratio"]) == ([], None)
    assert "failed" in render(tabulate([row], 1))


@pytest.fixture
def refusing():
    """Answers every third request with a 503."""

    class Handler(BaseHTTPRequestHandler):
        count = 0

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            Handler.count += 1
            self.send_response(503 if Handler.count % 3 == 0 else 200)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"7")

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_another_status_than_2xx_is_a_failure(refusing, tmp_path):
    (tmp_path / "body").write_bytes(b"x")
    with pytest.raises(WindtunnelError, match=rf"requests to {refusing} failed"):
        ab(refusing, tmp_path / "body", "text/plain", [], 2, 1)
    with pytest.raises(WindtunnelError, match=r"answers 503: 7"):
        Rest(refusing, "text/plain", {}, [b"x"], int).check(np.array([7]), 2)


def test_an_open_loop_keeps_its_rate_and_counts_from_the_intended_time():
    slow = threading.Event()

    def ask(number):
        if number == 5:
            raise ValueError(number)
        if number == 10:
            slow.wait(0.5)
        return number

    with OpenLoop(ask, 100) as load:
        slow.wait(1)
    samples = sorted(load.samples, key=lambda sample: sample.intended)
    assert 50 < len(samples) <= 101
    assert np.diff([sample.intended for sample in samples]) == pytest.approx(0.01)
    assert isinstance(samples[5].answer, ValueError)
    assert samples[10].latency >= 0.5
    assert all(sample.sent >= sample.intended for sample in samples)
