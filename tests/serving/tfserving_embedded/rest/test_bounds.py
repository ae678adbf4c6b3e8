"""What a client may not do to the server: every request is answered, soon, in a sentence; and the server goes on."""

import asyncio
import contextlib
import gzip
import itertools
import json
import re
import select
import socket
import threading
import time
import tracemalloc

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.tfserving_embedded.rest import json_document, json_predict, request_body
from serving.tfserving_embedded.serving_error import ServingError
from tests.cost import cost
from tests.serving.tfserving_embedded.rest.rest_api import RestApi
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.minutes(1)

PREDICT = "/v1/models/two_versions:predict"
MB = 2**20


def connect(api: RestApi) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE)


def head(*lines: str, method: str = "POST", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {PREDICT} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def until_closed(stream: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):  # it was closed while something was on its way there
        while chunk := stream.recv(65536):
            received += chunk
    return received


def one_answer(stream: socket.socket) -> bytes:
    """An answer on a connection that stays open."""
    received = b""
    while not (match := re.search(rb"content-length: (\d+).*?\r\n\r\n(.*)", received, re.DOTALL)) or len(match[2]) < int(match[1]):
        chunk = stream.recv(65536)
        assert chunk, received
        received += chunk
    return received


def parsed(answer: bytes) -> tuple[int, bytes, dict]:
    """Status, head and body of one answer."""
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]), first.lower(), json.loads(body)


def goes_on(client: httpx.Client) -> None:
    response = client.post(PREDICT, json={"instances": [1]})
    assert (response.status_code, response.json()) == (200, {"predictions": [3.5]})


@pytest.fixture
def cheap(api):
    """Gives what a call returns, which may not cost the server a second of its processor, however busy the machine is."""

    def cheap(call):
        before = sum(api.process.cpu_times()[:2])
        found = call()
        assert sum(api.process.cpu_times()[:2]) - before < 1
        return found

    return cheap


@pytest.fixture(autouse=True)
def _goes_on(client):
    yield
    goes_on(client)


@pytest.fixture
def modest(api):
    """The server does not need much more memory after the test than before."""
    before = api.process.memory_info().rss
    yield
    wait_for(lambda: api.process.memory_info().rss < before + 64 * MB)  # it gives large ones back when it has answered


@pytest.mark.usefixtures("modest")
def test_a_body_that_is_too_large_is_refused_before_it_comes(api):
    with connect(api) as stream:
        stream.sendall(head(f"Content-Length: {300 * MB}"))
        status, first, body = parsed(one_answer(stream))
    assert (status, b"connection: close" in first) == (413, True)
    sizes = "found 314,572,800 bytes, expected at most 268,435,456 bytes"
    assert body == {"error": f"The request's body is too large: {sizes}. Send fewer instances at a time"}


@pytest.mark.usefixtures("modest")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_all_of_a_body_too_large_gets_its_answer(client, chunked):
    chunks = (b"x" * MB for _ in range(300))
    response = client.post(PREDICT, content=chunks, headers={} if chunked else {"content-length": str(300 * MB)})
    assert response.status_code == 413
    assert "Send fewer instances at a time" in response.json()["error"]


@pytest.mark.usefixtures("modest")
def test_a_bomb_does_not_go_off(client):
    bomb = gzip.compress(bytes(300 * MB), 1)
    response = client.post(PREDICT, content=bomb, headers={"content-encoding": "gzip"})
    assert (response.status_code, "after decompression" in response.json()["error"]) == (413, True)


@pytest.mark.usefixtures("modest")
@pytest.mark.parametrize("form", ["numbers", "objects", "gzip"])
def test_six_pictures_are_answered(client, form):
    """17 MB, as the real server takes them."""
    pictures = np.random.default_rng(0).random((6, 224, 224, 3))
    instances = [{"x": picture} for picture in pictures] if form == "objects" else pictures
    body = orjson.dumps({"instances": instances}, option=orjson.OPT_SERIALIZE_NUMPY)
    assert len(body) > request_body.LARGE_BYTES
    if form == "gzip":
        response = client.post(PREDICT, content=gzip.compress(body, 1), headers={"content-encoding": "gzip"})
    else:
        response = client.post(PREDICT, content=body)
    assert response.status_code == 200, response.text[:1000]
    np.testing.assert_allclose(orjson.loads(response.content)["predictions"], pictures / 2 + 3, rtol=1e-6)


def chunks_of(sizes):
    """ASGI's `receive` for a body that comes in chunks of these sizes; and how many have come."""
    come = []

    async def receive():
        come.append(sizes[len(come)])
        await asyncio.sleep(0)
        return {"type": "http.request", "body": bytes(come[-1]), "more_body": len(come) < len(sizes)}

    return receive, come


def test_large_bodies_are_read_one_at_a_time():
    async def run():
        lock = asyncio.Lock()
        first, second, small = (request_body.Turn(lock) for _ in range(3))
        sizes = [request_body.LARGE_BYTES, 1, 1]
        receive, _ = chunks_of(sizes)
        assert len(await request_body.read([], receive, first)) == sum(sizes)
        receive, come = chunks_of(sizes)
        waiting = asyncio.ensure_future(request_body.read([], receive, second))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(await request_body.read([], chunks_of([request_body.LARGE_BYTES])[0], small)) == request_body.LARGE_BYTES
        assert (waiting.done(), come) == (False, sizes[:2])
        assert await small.work(threading.current_thread) is threading.current_thread()
        assert await first.work(threading.current_thread) is not threading.current_thread()
        first.end()
        assert len(await waiting) == sum(sizes)

    asyncio.run(run())


def test_a_large_body_must_come_before_its_turn_is_over(monkeypatch):
    monkeypatch.setattr(request_body, "LARGE_SECONDS", 0)
    receive, _ = chunks_of([request_body.LARGE_BYTES + 1, 1, 1])
    with pytest.raises(request_body.HttpError, match="the rest did not come within 0 s") as caught:
        asyncio.run(request_body.read([], receive, request_body.Turn(asyncio.Lock())))
    assert (caught.value.status, caught.value.unread) == (408, True)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"b64":'])
def test_deep_json_is_refused(client, cheap, opening):
    response = cheap(lambda: client.post(PREDICT, content=b'{"instances": ' + opening * 250_000))
    assert (response.status_code, "nested too deep" in response.json()["error"]) == (400, True)


ELEMENTS = [b"[]", b"{}", b"[[[[1]]]]", b'"x"', b'{"b64":""}', b"1.5", b"1", b"16777217", b"true", b"null", b"[" * 60 + b"]" * 60]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("last", [b"", b"true", b"[[]]", b"NaN", b"1e300"])
def test_a_large_body_costs_no_more_than_its_size(element, last):
    """A megabyte of anything is read or refused within a second, wherever the error is."""
    count = MB // (len(element) + 1)
    body = b'{"instances": [' + b",".join([element] * count + [last] * bool(last)) + b"]}"

    def read() -> None:
        with contextlib.suppress(ServingError):
            json_predict.inputs(json_document.read(body), {"x": np.dtype(np.float32)})

    assert cost(read) < 1


@pytest.mark.parametrize("element", [b"1", b"null", b"[]", b"{}", b'""'])
def test_a_body_takes_a_multiple_of_its_size_of_memory(element):
    body = b'{"instances": [' + b",".join([element] * (MB // (len(element) + 1))) + b"]}"
    tracemalloc.start()
    try:
        json_document.read(body)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(body)
    finally:
        tracemalloc.stop()


def test_only_numbers_may_be_many(monkeypatch):
    """Of other values, 240 kB of gzip unpack to 9 GB of Python's objects."""
    monkeypatch.setattr(json_document, "MAX_VALUES", 5)
    assert json_document.read(b'{"instances": [1, 2, 3, 4, 5, 6, 7]}').members["instances"].size == 7
    with pytest.raises(ServingError, match="too many values: found 7, expected at most 5\\. Send fewer"):
        json_document.read(b'{"instances": [[], [], []]}')


def test_a_head_cannot_be_stretched(api):
    """Neither by a byte now and then, nor by what precedes it."""
    with contextlib.ExitStack() as stack:
        empty_line, unread = (stack.enter_context(connect(api)) for _ in range(2))
        for stream, sent in ((empty_line, head("Content-Length: 2") + b"{}"), (unread, b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n1")):
            stream.sendall(sent)
            assert one_answer(stream)
            stream.sendall(b"\r\n")
        slow = stack.enter_context(connect(api))
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):  # it is closed between a look and a byte
            while not select.select([slow], [], [], 0.5)[0]:
                assert time.monotonic() - start < PATIENCE
                slow.sendall(b"x")
        assert [until_closed(stream) for stream in (slow, empty_line, unread)] == [b"", b"", b""]


def test_slow_clients_are_given_up_and_hold_nobody_up(api, client):
    beginnings = [b"", b"POST /v1/mod", head("Content-Length: 100") + b'{"instances":', head("Transfer-Encoding: chunked") + b"5\r\n{"]
    streams = [connect(api) for _ in beginnings]
    idle = [connect(api) for _ in range(200)]
    for stream, beginning in zip(streams, beginnings, strict=True):
        stream.sendall(beginning)
    for _ in range(3):
        assert client.post(PREDICT, json={"instances": [1]}).status_code == 200
    assert select.select(streams, [], [], 0)[0] == []  # they have not been given up yet: nobody has waited for that
    answers = [until_closed(stream) for stream in streams]
    assert answers[:2] == [b"", b""]
    for answer in answers[2:]:
        status, _, body = parsed(answer)
        assert status == 408
        assert "No more of the request's body arrived for 10 s" in body["error"]
    for stream in (*streams, *idle):
        stream.close()


def test_a_client_may_go_away_at_any_time(api):
    request = head("Content-Length: 22") + b'{"instances": [1.0, 2]}'
    for length in range(1, len(request), 7):
        with connect(api) as stream:
            stream.sendall(request[:length])


def test_a_head_has_bounds(api):
    with connect(api) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            while True:
                stream.sendall(b"X: %b\r\n" % (b"x" * 1000))
    with connect(api) as stream:
        stream.sendall(b"GET /" + b"x" * 66_000)
        status, _, body = parsed(until_closed(stream))
    assert (status, body) == (431, {"error": "The request's head has more than 65,536 bytes"})


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x00\x01\x02\r\n\r\n", b"HELLO\r\n\r\n", b"GET\r\n\r\n", head("Content-Length: -1"), head("Content-Length: 1", "Content-Length: 2")],
)
def test_what_is_not_http_is_refused(api, request_bytes):
    with connect(api) as stream:
        stream.sendall(request_bytes)
        status, _, body = parsed(until_closed(stream))
    assert (status, body) == (400, {"error": "Invalid HTTP request received."})


def test_pipelined_requests_are_answered_in_order(api):
    requests = b""
    for number in range(20):
        body = json.dumps({"instances": [number]}).encode()
        last = ["Connection: close"] if number == 19 else []
        requests += head(f"Content-Length: {len(body)}", *last) + body
    with connect(api) as stream:
        stream.sendall(requests)
        answers = until_closed(stream).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers] == [{"predictions": [n / 2 + 3]} for n in range(20)]


@pytest.mark.parametrize(("line", "stays"), [("Connection: keep-alive", True), ("Accept: */*", False)])
def test_http_1_0_keeps_a_connection_only_on_demand(api, line, stays):
    body = b'{"instances": [1]}'
    with connect(api) as stream:
        for _ in range(2 if stays else 1):
            stream.sendall(head(line, f"Content-Length: {len(body)}", version="1.0") + body)
            answer = one_answer(stream)
            assert parsed(answer)[0] == 200
            assert (b"connection: keep-alive" in answer, b"connection: close" in answer) == (stays, not stays)
        if not stays:
            assert stream.recv(1) == b""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text('xä"\x00', max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=10,
)
REQUESTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("instances", "inputs", "examples", "context", "signature_name"), JSON))
BODIES = REQUESTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)
PATHS = st.sampled_from([PREDICT, f"{PREDICT[:-8]}:classify", f"{PREDICT[:-8]}:regress", "/v1/models/identity:predict"])


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(PATHS, BODIES, st.sampled_from([{}, {}, {}, {"content-encoding": "gzip"}]))
@example(PREDICT, b'{"instances": [[]]}', {})
@example(f"{PREDICT[:-8]}:classify", b'{"signature_name": "classify_x_to_y", "examples": [{"x": []}]}', {})
def test_whatever_is_posted_is_answered(client, cheap, path, body, headers):
    response = cheap(lambda: client.post(path, content=body, headers=headers))
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        assert len(response.json()["error"]) > 5


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"]),
    st.text("/:v1models%?#.~é half_plus_two2", max_size=40).map(lambda text: text.encode("utf-8")) | st.binary(max_size=20),
)
def test_whatever_is_asked_is_answered(api, method, path):
    with connect(api) as stream:
        stream.sendall(f"{method} /v1/".encode() + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        stream.shutdown(socket.SHUT_WR)
        answer = until_closed(stream)
    assert 200 <= int(answer.split()[1]) < 500, answer


def test_a_crowd_of_bad_requests_does_not_hold_up_a_good_one(client, api):
    stop = threading.Event()
    refused = itertools.count()

    def crowd() -> None:
        with httpx.Client(base_url=api.url, timeout=PATIENCE, trust_env=False) as other:
            while not stop.is_set():
                for bad in (b'{"instances": ' + b"[" * 100_000, b"{" * 1000):
                    other.post(PREDICT, content=bad)
                    next(refused)

    def asked() -> tuple[int, int]:
        """The status of a good request, and how many of the crowd's were answered before it."""
        before = next(refused)
        return client.post(PREDICT, json={"instances": [1]}).status_code, next(refused) - before - 1

    threads = [threading.Thread(target=crowd) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        answers = [asked() for _ in range(20)]
        assert {status for status, _ in answers} == {200}
        assert min(overtaking for _, overtaking in answers) <= 2 * len(threads)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
