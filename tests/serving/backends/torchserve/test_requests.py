"""What users send, over the real protocols: good, bad, and both at once."""

import io
import json
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import load_file

from serving.backends.torchserve.declaration import TorchServeSettings
from serving.backends.torchserve.tokens import authorization
from tests.serving.backends.torchserve.running_torchserve import npy

NAME = "lenet5-libtorch"
LARGE = 100 << 20


@pytest.fixture(scope="module")
def golden(trained):
    return load_file(trained("libtorch", 1) / "golden.safetensors")


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image[..., 0].astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def bomb():
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(900_000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


BAD = {
    "empty": (b"", "the body is empty"),
    "text": (b"seven", "unknown format"),
    "half a picture": (png(np.arange(784).reshape(28, 28, 1) ** 2 % 251)[:400], "the PNG cannot be decoded"),
    "picture bomb": (bomb(), "the PNG is too large"),
    "wrong shape": (npy(np.zeros((2, 14, 14))), "wrong shape: found (2, 14, 14)"),
    "wrong dtype": (npy(np.full((28, 28), "7")), "expected numbers"),
    "NaN": (npy(np.full((28, 28), np.nan)), "found nan to nan"),
    "deep JSON": (b"[" * 100_000, "the JSON cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_gets_a_400_and_a_sentence_over_rest(torchserve, kind):
    body, reason = BAD[kind]
    reply = torchserve.post(NAME, body, content_type="application/json")  # whatever the client calls it
    assert reply.status_code == 400
    assert reason in reply.json()["message"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_gets_invalid_argument_and_a_sentence_over_grpc(torchserve, kind):
    body, reason = BAD[kind]
    torchserve.call(NAME, bytes(784))  # the channel is open
    with pytest.raises(grpc.RpcError) as raised:
        torchserve.call(NAME, body)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason in raised.value.details()


def test_good_requests_in_every_form_get_the_same_answer(torchserve, golden):
    image = golden["image"][0]
    forms = [png(image), npy(image), image.astype(np.uint8).tobytes(), json.dumps(image.tolist()).encode()]
    answers = [torchserve.post(NAME, form).json() for form in forms] + [torchserve.call(NAME, form) for form in forms]
    multipart = httpx.post(
        f"{torchserve.server.inference}/predictions/{NAME}",
        files={"data": forms[0]},
        headers=authorization(torchserve.server.tokens.get("inference")),
        trust_env=False,
    )
    for answer in [*answers, multipart.json()]:
        assert answer["label"] == golden["logits"][0].argmax()
        assert answer["version"] == 1
        np.testing.assert_allclose(answer["logits"], golden["logits"][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(answer["probabilities"], golden["probabilities"][0], atol=1e-5)


def test_a_bad_request_does_not_spoil_the_batch_it_is_in(torchserve, golden):
    """80 clients at once fill batches of up to 32 with good and bad requests; each gets its own answer."""
    bodies = [BAD["NaN"][0] if index % 4 == 0 else npy(golden["image"][index % 32 : index % 32 + 1]) for index in range(400)]
    with ThreadPoolExecutor(80) as clients:
        replies = list(clients.map(lambda body: torchserve.post(NAME, body), bodies))
    for index, reply in enumerate(replies):
        if index % 4 == 0:
            assert reply.status_code == 400
            assert "found nan to nan" in reply.json()["message"]
        else:
            np.testing.assert_allclose(reply.json()["predictions"][0]["logits"], golden["logits"][index % 32], rtol=1e-5, atol=1e-5)


def test_a_body_of_100_mb_is_refused_before_it_comes(torchserve):
    with socket.create_connection(("127.0.0.1", torchserve.settings.server(TorchServeSettings).inference_port)) as connection:
        token = torchserve.server.tokens.get("inference")
        connection.sendall(
            f"POST /predictions/{NAME} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {LARGE}\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_100_mb_is_refused_over_grpc(torchserve):
    body = bytes(LARGE)
    with pytest.raises(grpc.RpcError) as raised:
        torchserve.call(NAME, body)
    # TorchServe says the former and closes the stream; while the client still sends, the latter may be what it sees.
    assert raised.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
    assert torchserve.call(NAME, bytes(784))["version"] == 1


@pytest.mark.parametrize(
    ("api", "method", "path", "status", "reason"),
    [
        ("inference", "POST", "/predictions/nothing", 404, "Model not found: nothing"),
        ("inference", "POST", f"/predictions/{NAME}/9", 404, "Model version: 9 does not exist"),
        ("inference", "POST", "/nothing", 404, "not found"),
        ("inference", "GET", f"/predictions/{NAME}", 400, "the body is empty"),
        ("management", "PATCH", "/models", 405, "not allowed"),
    ],
)
def test_what_is_not_there(torchserve, api, method, path, status, reason):
    token = authorization(torchserve.server.tokens.get(api))
    reply = httpx.request(method, getattr(torchserve.server, api) + path, headers=token, trust_env=False)
    assert reply.status_code == status
    assert reason in reply.json()["message"]


def test_without_its_token_no_api_answers(torchserve):
    for url in (
        f"{torchserve.server.inference}/predictions/{NAME}",
        f"{torchserve.server.management}/models",
        f"{torchserve.server.management}/workflows",
    ):
        for headers in ({}, authorization("wrong"), authorization(torchserve.server.tokens.get("inference")) if "models" in url else {}):
            reply = httpx.post(url, headers=headers, params={"url": "a.mar"}, trust_env=False)
            assert reply.status_code == 400
            assert "Token Authorization failed" in reply.json()["message"]
    with pytest.raises(grpc.RpcError, match="Token Authorization failed"):
        torchserve.call(NAME, b"", "wrong")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1:1/a.mar", "does not match any allowed URL"),
        ("file:///etc/passwd", "does not match any allowed URL"),
        ("FILE:///etc/passwd", "does not match any allowed URL"),
        ("s3://bucket/a.mar", "Model not found at"),
        ("/etc/passwd", "Model not found at"),
        ("../key_file.json", "Relative path is not allowed"),
    ],
)
def test_only_the_model_store_can_be_loaded_from(torchserve, url, reason):
    token = authorization(torchserve.server.tokens.get("management"))
    reply = httpx.post(f"{torchserve.server.management}/models", params={"url": url}, headers=token, trust_env=False)
    assert reply.status_code == 404
    assert reason in reply.json()["message"]


def test_it_listens_on_loopback_alone_and_on_its_four_ports(torchserve):
    listening = {each.laddr for each in psutil.Process(torchserve.process.pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(torchserve.settings.server(TorchServeSettings).ports.values())


def test_metrics_are_on_a_socket_of_their_own(torchserve):
    torchserve.post(NAME, BAD["empty"][0])
    transport = httpx.HTTPTransport(uds=str(torchserve.server.folders.temporary / "metrics.sock"))
    with httpx.Client(transport=transport) as client:
        assert f'ts_inference_requests_total{{model_name="{NAME}"' in client.get("http://localhost/metrics").text


def parts(torchserve, files):
    return httpx.post(
        f"{torchserve.server.inference}/predictions/{NAME}",
        files=files,
        headers=authorization(torchserve.server.tokens.get("inference")),
        trust_env=False,
    )


def test_two_pictures_in_a_form_are_refused_and_other_fields_are_not(torchserve, golden):
    first, second = png(golden["image"][0]), golden["image"][1]
    for other in (npy(second), png(second)[:200], json.dumps(second.tolist()).encode()):
        reply = parts(torchserve, {"a": first, "b": other})
        assert reply.status_code == 400
        assert reply.json()["message"] == "the form has 2 pictures: a, b. Send one picture per request, or an .npy of many"
    assert parts(torchserve, {"data": first, "note": b"a seven"}).json()["label"] == golden["logits"][0].argmax()


@pytest.mark.parametrize("form", ["JSON", "pixels", "field"])
def test_what_curl_sends_as_a_form_is_answered_with_the_cause(torchserve, golden, form):
    """TorchServe takes a form apart before a handler sees it, and answers one that cannot be taken apart, of a PNG say, with a 500."""
    image = golden["image"][0]
    body = {"JSON": json.dumps(image.tolist()).encode(), "pixels": b"\7" * 784, "field": b"data=hello"}[form]
    reply = torchserve.post(NAME, body, content_type="application/x-www-form-urlencoded")
    assert reply.status_code == 400
    cause, _, step = reply.json()["message"].partition(". ")
    assert cause.startswith("the body is a form (application/x-www-form-urlencoded), as curl -d and --data-binary send it")
    assert step.startswith("Send it with -T FILE, or add -H 'Content-Type: application/octet-stream'; found: ")
    named = torchserve.post(NAME, b"data=" + json.dumps(image.tolist()).encode(), content_type="application/x-www-form-urlencoded")
    assert named.json()["label"] == golden["logits"][0].argmax(), "a form with a field that holds the pixels is a request as others are"
