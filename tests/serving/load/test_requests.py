"""What a load generator takes for an answer, shown on servers that lie."""

import json
import math
import threading
import time

import numpy as np
import pytest

from serving.load.generators import FEWEST, OpenLoop, ab
from serving.load.requests import Batch, Grpc, Requests, Rest, batches
from tests.serving.load import lying_servers
from tests.serving.load.lying_servers import grpc_server, http_server, label, stalling
from tests.waiting import wait_for
from windtunnel.errors import WindtunnelError

pytestmark = pytest.mark.minutes(1)

STALL = 1.5  # seconds
ERROR = {"error": "Could not find the requested model", "and": "the status of success"}


def read(answer: bytes) -> list[int]:
    return [json.loads(answer)["label"]]


def rest(url: str) -> Rest:
    return Rest([b"an image"], [(7,)], read, url, "text/plain", {})


def grpc(address: str) -> Grpc:
    return Grpc([b"an image"], [(7,)], read, address, lying_servers.METHOD, {})


@pytest.fixture(params=["rest", "grpc"])
def asking(request):
    """Requests to a server that gives such answers."""
    running = []

    def start(answer) -> Requests:
        running.append(http_server(answer) if request.param == "rest" else grpc_server(answer))
        address = running[-1].__enter__()
        return rest(address) if request.param == "rest" else grpc(address)

    yield start
    for server in running:
        server.__exit__(None, None, None)


def test_batches_hold_every_image():
    images, labels = np.arange(10).reshape(10, 1), np.arange(10)
    assert [batch.labels for batch in batches(images, labels, 4)] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 0, 1)]
    assert all(isinstance(batch, Batch) and batch.images.ravel().tolist() == list(batch.labels) for batch in batches(images, labels, 4))
    assert len(batches(images, labels, 12)) == 1


def test_what_an_honest_server_gives_is_measured(asking):
    requests = asking(label)
    for figures in (requests.closed(4, 0.2), requests.open(50, 0.3)):
        assert 0 < figures.requests_per_second < 100_000
        assert 0 < figures.p50 <= figures.p99
    assert 0 < requests.open(50, 1).requests_per_second < 1.3 * 50  # never more than it offers


def test_however_short_something_is_measured(asking):
    requests = asking(label)
    closed = requests.closed(1, 0.001)
    assert closed.requests_per_second > 0
    assert 0 < closed.p50 <= closed.p99 < math.inf
    assert requests.open(5, 0.001).p99 > 0


def sometimes(wrong, every=40):
    """Right, but for one answer in forty, as a server is that fails under load."""
    return lambda number: wrong if number % every == every - 1 else label(number)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            (200, json.dumps({"label": 8, "is": "what the trainer does not say of it, at all"}).encode()),
            "found the labels 8, expected the trainer's",
        ),
        ((200, json.dumps(ERROR).encode()), "answers without a prediction"),
        ((200, b'{"label": 7, "is": "what the trainer says of the o'), "answers without a prediction"),
        ((503, b"busy"), "answers UNAVAILABLE: busy|answers 503|requests to .* failed"),
    ],
)
@pytest.mark.parametrize("loop", ["closed", "open"])
def test_one_wrong_answer_and_there_is_no_figure(asking, loop, wrong, said):
    requests = asking(sometimes(wrong))

    def until_it_has_come():  # on a busy machine few requests have their turn in so short a time
        while True:
            requests.closed(4, 0.2) if loop == "closed" else requests.open(200, 0.5)

    with pytest.raises(WindtunnelError, match=said):
        until_it_has_come()


def test_the_last_answer_is_looked_into_as_every_other():
    cheating = (200, json.dumps({"label": 8, "is": "what the trainer says of the only image"}).encode())
    with http_server(lambda number: cheating if number == 9 else label(number)) as url:
        requests = rest(url)
        with pytest.raises(WindtunnelError, match="found the labels 8"):
            ab(url, b"an image", "text/plain", {}, 1, 10, lambda body: requests.check(0, body))


def test_what_was_checked_before_is_checked_afterwards_alone():
    """Of two requests ApacheBench sends the first; the third answer to the other is wrong."""
    asked: list[bytes] = []

    def answer(number: int) -> tuple[int, bytes]:
        return label(number) if asked[number] == b"first" or asked.count(b"second") < 3 else (200, b'{"label": 8}')

    with http_server(answer, seen=asked.append) as url:
        requests = Rest([b"first", b"second"], [(7,), (7,)], read, url, "text/plain", {})
        requests.closed(1, 0.01)
        assert asked.count(b"second") == 2
        before = len(asked)
        with pytest.raises(WindtunnelError, match="found the labels 8, expected the trainer's"):
            requests.closed(1, 0.01, checked=True)
        assert asked[before:].index(b"second") > FEWEST


def test_an_answer_of_another_length_is_wrong_even_where_apachebench_prints_no_body():
    """As where a server sends the header first: here the body is too large."""
    large = json.dumps({"label": 7, "filled": "x" * 20_000}).encode()
    cut = json.dumps({"label": 7, "filled": "x" * 10_000}).encode()
    with (
        http_server(lambda number: (200, cut if number == 30 else large)) as url,
        pytest.raises(WindtunnelError, match="answers the same request with"),
    ):
        rest(url).closed(1, 0.2)


def test_an_answer_without_a_length_is_not_trusted():
    with http_server(label, length=False) as url, pytest.raises(WindtunnelError, match="sends no Content-Length"):
        rest(url).closed(1, 0.1)


def test_a_server_that_is_down_is_an_error():
    with http_server(label) as url:
        pass
    with pytest.raises(WindtunnelError, match=f"{url} does not answer"):
        rest(url).closed(1, 0.1)
    with grpc_server(label) as address:
        pass
    with pytest.raises(WindtunnelError, match=f"{address} answers UNAVAILABLE"):
        grpc(address).closed(1, 0.1)


def test_a_server_that_stalls_hides_from_the_closed_loop_and_not_from_the_open_one(asking):
    """A second and a half: one of hundreds of requests in the closed loop, and hundreds of those that the open one should have sent."""
    for seconds in (3, 9, 27, 81):
        requests = asking(stalling(STALL))
        closed = requests.closed(1, seconds)
        if closed.requests_per_second * seconds > 200:  # so that one is less than a hundredth of them
            break
    requests = asking(stalling(STALL))
    assert closed.p99 < STALL / 2 < requests.open(100, 3).p99


def test_an_open_loop_keeps_its_rate_and_counts_from_the_intended_time():
    slow = threading.Event()

    def ask(number):
        if number == 5:
            raise ValueError(number)
        if number == 10:
            slow.wait(0.5)
        return number

    start = time.perf_counter()
    with OpenLoop(ask, 100) as load:
        wait_for(lambda: len(load.samples) > 10)
    took = time.perf_counter() - start
    samples = sorted(load.samples, key=lambda sample: sample.intended)
    assert 10 < len(samples) <= 100 * took + 1
    assert np.diff([sample.intended for sample in samples]) == pytest.approx(0.01)
    assert isinstance(samples[5].answer, ValueError)
    assert samples[10].latency >= 0.5
    assert all(sample.sent >= sample.intended for sample in samples)
