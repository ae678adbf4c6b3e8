"""The REST API, asked over HTTP. The cases are those of TensorFlow Serving's http_rest_api_handler_test.cc, and its documentation's."""

import gzip
import json
import re
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.serving.tfserving_embedded.rest.rest_api import rest_api
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.minutes(1)

HALF = "/v1/models/two_versions"


def ok(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def error(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return response.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (":predict", {"instances": [1.0, 2.0]}, {"predictions": [3.5, 4.0]}),
        ("/versions/123:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ("/labels/stable:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        (f"/versions/{'0' * 5000}123:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ("/versions/123:predict", {"signature_name": "serving_default", "instances": [3, 4]}, {"predictions": [3.5, 4.0]}),
        ("/versions/123:predict", {"signature_name": "serving_default", "inputs": [3, 4]}, {"outputs": [3.5, 4.0]}),
        ("/versions/123:predict", {"instances": [{"x": 3}, {"x": 4}]}, {"predictions": [3.5, 4.0]}),
        ("/versions/123:predict", {"inputs": {"x": [3, 4]}}, {"outputs": [3.5, 4.0]}),
        ("/versions/123:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}, {"results": [42]}),
        (":classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]}, {"results": [[["", 13]]]}),
        (
            "/versions/123:classify",
            {"signature_name": "classify_x_to_y", "context": {"x": 10.0}, "examples": [{}]},
            {"results": [[["", 7]]]},
        ),
    ],
)
def test_inference(client, path, body, expected):
    assert ok(client.post(HALF + path, json=body)) == expected


def test_types_by_row_and_by_column(client):
    row = {"decimal": 0.1, "whole": -(2**63), "truth": True, "text": 'ä"', "some_bytes": {"b64": "/w=="}}
    expected = {"the_decimal": 0.1, "the_whole": -(2**63), "the_truth": True, "the_text": 'ä"', "the_some_bytes": {"b64": "/w=="}}
    assert ok(client.post("/v1/models/identity:predict", json={"instances": [row, row]})) == {"predictions": [expected, expected]}
    assert ok(client.post("/v1/models/identity:predict", json={"inputs": row})) == {"outputs": expected}


def test_an_input_with_a_default_cannot_be_left_out_over_rest(client):
    """The real server reads JSON by the signature's inputs alone (GetInfoMap): its defaults are for gRPC."""
    path, row = "/v1/models/defaults:predict", {"x": 2.0, "more": 5.0}
    assert ok(client.post(path, json={"instances": [row]})) == {"predictions": [{"the_x": 2.0, "the_more": 5.0}]}
    for body, expected in (
        ({"instances": [{"x": 2.0}]}, "keys must be equal to: more,x"),
        ({"instances": [row, {"x": 2.0}]}, "Failed to process element: 1 of 'instances' list"),
        ({"instances": [2.0]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": {"x": 2.0}}, "Missing named input: more in 'inputs' object."),
        ({"inputs": 2.0}, "inputs is a plain value/list, but expecting an object"),
    ):
        response = client.post(path, json=body)
        assert response.status_code == 400
        assert expected in error(response)


def test_nan_and_the_infinities_go_through(client):
    response = client.post(f"{HALF}:predict", content=b'{"instances": [NaN, Infinity, -Infinity, 1]}')
    assert response.status_code == 200
    assert response.content == b'{"predictions": [NaN, Infinity, -Infinity, 3.5]}'


def test_status(client):
    def version(number: int) -> dict:
        return {"version": str(number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert ok(client.get(HALF)) == {"model_version_status": [version(124), version(123)]}
    assert ok(client.get(f"{HALF}/versions/123")) == {"model_version_status": [version(123)]}
    assert ok(client.get(f"{HALF}/labels/stable")) == {"model_version_status": [version(123)]}
    assert client.head(HALF).status_code == 200
    assert client.head(HALF).content == b""


def test_metadata(client):
    found = ok(client.get(f"{HALF}/labels/stable/metadata"))
    assert found["model_spec"] == {"name": "two_versions", "signature_name": "", "version": "123"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["regress_x_to_y"]["method_name"] == "tensorflow/serving/regress"
    tensor = signatures["serving_default"]["inputs"]["x"]
    assert (tensor["dtype"], tensor["tensor_shape"]["unknown_rank"]) == ("DT_FLOAT", False)
    assert tensor["tensor_shape"]["dim"][0] == {"size": "-1", "name": ""}


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo. Expected GET /v1/models/NAME"),
        ("POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models", 400, "Malformed request"),
        ("GET", f"{HALF}:predict", 400, f"Malformed request: GET {HALF}:predict"),
        ("PUT", f"{HALF}:predict", 400, "Malformed request: PUT"),
        ("DELETE", HALF, 400, "Malformed request: DELETE"),
        ("GET", f"{HALF}/version/50:predict", 400, "Malformed request"),
        ("POST", f"{HALF}/versions/HELLO:regress", 400, "Malformed request"),
        ("POST", f"{HALF}/versions/-1:regress", 400, "Malformed request"),
        ("POST", f"{HALF}/versions/18446744073709551615:predict", 400, "Failed to convert version: 18446744073709551615 to numeric."),
        ("GET", f"{HALF}/versions/{'9' * 5000}", 400, "Failed to convert version"),
        ("POST", f"{HALF}/versions/123/labels/stable:predict", 400, "Malformed request"),
        ("GET", "/", 404, "There is nothing at /"),
        ("GET", "/v1/models/foo", 404, "foo"),
        ("GET", "/v1/models/foo/metadata", 404, "foo"),
        ("POST", "/v1/models/foo:predict", 404, "foo"),
        ("POST", f"{HALF}/versions/50:predict", 404, "50"),
        ("GET", f"{HALF}/versions/50", 404, "50"),
        ("POST", f"{HALF}/labels/none:predict", 400, "none"),
        ("POST", "/v1/models/%ff%00:predict", 404, "not found"),
    ],
)
def test_what_is_not_there(client, method, path, status, expected):
    response = client.request(method, path, content=b'{"instances": [1]}' if method == "POST" else None)
    assert response.status_code == status, response.text
    assert expected in error(response)


def test_what_another_origin_may_do(client):
    """Without --rest_api_enable_cors_support: the answer does not say, and a browser takes that for a no."""
    response = client.options(f"{HALF}:predict", headers={"origin": "http://localhost:3000"})
    assert (response.status_code, response.content) == (200, b"")
    assert not [name for name in response.headers if name.startswith("access-control")]
    for headers in ({}, {"origin": "null"}):
        response = client.options(f"{HALF}:predict", headers=headers)
        assert (response.status_code, error(response)) == (400, "Origin header is missing in CORS preflight")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (":predict", "", "JSON Parse error: The document is empty"),
        (":predict", "instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (":predict", '{"instances": ["x", "y"]}', "not of expected type: float"),
        (":predict", '{"signature_name": "none", "instances": [1]}', 'Serving signature name: "none" not found in signature def'),
        ("/../batch:predict", '{"instances": [[1, 2, 3]]}', "shape"),
        (":regress", '{"instances": [1]}', "key 'examples' is expected and was not found"),
        (":regress", '{"signature_name": "regress_x_to_y", "examples": [{"x": "a"}]}', "x"),
    ],
)
def test_what_is_wrong_with_a_request(client, path, body, expected):
    response = client.post(HALF + path, content=body.encode())
    assert response.status_code == 400
    assert expected in error(response)


def test_gzip(client):
    def post(content: bytes, encoding: str = "gzip") -> httpx.Response:
        return client.post(f"{HALF}:predict", content=content, headers={"content-encoding": encoding})

    body = gzip.compress(b'{"instances": [1, 2]}')
    assert ok(post(body)) == {"predictions": [3.5, 4.0]}
    assert (post(body[:-4]).status_code, post(body + b"x").status_code, post(b"{}").status_code) == (400, 400, 400)
    assert "Failed to uncompress the gzipped body" in error(post(b"{}"))
    assert post(body, "br").status_code == 415


def test_metrics(client):
    def count(status: str) -> float:
        response = client.get("/monitoring/prometheus/metrics")
        assert response.headers["content-type"] == "text/plain"
        match = re.search(rf'^:tensorflow:serving:request_count{{model_name="two_versions",status="{status}"}} (\S+)$', response.text, re.M)
        return float(match[1]) if match else 0

    answered, refused = count("OK"), count("INVALID_ARGUMENT")
    client.post(f"{HALF}:predict", json={"instances": [1]})
    client.post(f"{HALF}:predict", json={"instances": ["x"]})
    client.post("/v1/models/made-up:predict", json={"instances": [1]})
    assert (count("OK"), count("INVALID_ARGUMENT")) == (answered + 1, refused + 1)
    page = client.get("/monitoring/prometheus/metrics").text
    assert "made-up" not in page
    assert re.search(r'^:tensorflow:serving:runtime_latency_sum\{API="Predict",model_name="two_versions",runtime="TF1"} [1-9]', page, re.M)
    assert re.search(r"^:tensorflow:core:graph_run_time_usecs [1-9]", page, re.M)


def test_metrics_of_batches(client):
    def counts() -> list[float]:
        page = client.get("/monitoring/prometheus/metrics").text
        samples = ['queuing_latency_count{thread_pool_name=""}', "input_batch_size_sum", "processed_batch_size_sum"]
        samples += ['padding_size_count{execution_batch_size="3"}', "wrapped_run_count"]
        found = [re.search(rf"^:tensorflow:serving:batching_session:{re.escape(name)} (\S+)$", page, re.M) for name in samples]
        return [float(match[1]) if match else 0 for match in found]

    before = counts()
    ok(client.post(f"{HALF}:predict", json={"instances": [1, 2, 3]}))
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 3, 3, 1, 1]


def test_apache_bench_keeps_its_connections(api, tmp_path):
    body = tmp_path / "body.json"
    body.write_text('{"instances": [1]}')
    command = ["ab", "-q", "-k", "-l", "-c", "4", "-n", "200", "-p", str(body), "-T", "application/json", f"{api.url}{HALF}:predict"]
    report = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert re.search(r"Complete requests:\s+200\b", report)
    assert re.search(r"Failed requests:\s+0\b", report)
    assert re.search(r"Keep-Alive requests:\s+200\b", report)
    assert "Non-2xx" not in report


def test_curl_waits_for_continue_before_it_sends_a_large_body(api, tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"instances": [1.5] * 300_000}))
    command = ["curl", "-sv", "-H", "Expect: 100-continue", "--data-binary", f"@{body}", f"{api.url}{HALF}:predict"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "HTTP/1.1 100 Continue" in done.stderr
    assert json.loads(done.stdout) == {"predictions": [3.75] * 300_000}


def test_an_upgrade_that_is_offered_is_not_taken(api):
    command = ["curl", "-s", "--http2", "-d", '{"instances": [1]}', f"{api.url}{HALF}:predict", "--next"]
    command += ["-s", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-d", '{"instances": [2]}', f"{api.url}{HALF}:predict"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == '{"predictions":[3.5]}{"predictions":[4.0]}'


def test_neighbours_in_a_batch_get_their_own_answers(client):
    wrong: list[object] = []

    def ask(start: int) -> None:
        for number in range(start, start + 50):
            if ok(client.post(f"{HALF}/versions/123:predict", json={"instances": [number]})) != {"predictions": [number / 2 + 2]}:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(start * 1000,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_flags_of_rest(rest_config: Path, tmp_path: Path):
    """A prediction that takes too long is given up, other origins may ask, and the metrics have another path."""
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true, path: "/metrics" }')
    flags = ["--rest_api_timeout_in_ms=50", "--rest_api_enable_cors_support", f"--monitoring_config_file={monitoring}"]
    models = [f"--model_config_file={rest_config}", "--allow_version_labels_for_unavailable_models"]
    with rest_api(tmp_path, *models, *flags) as api, api.client() as client:
        # a busy machine may need several tries to answer within 50 ms
        wait_for(lambda: client.post(f"{HALF}:predict", json={"instances": [1]}).status_code == 200)
        response = client.post("/v1/models/batch:predict", json={"instances": [[1, 2]]})
        assert (response.status_code, error(response)[:9]) == (504, "Timed out")
        response = client.get(HALF)
        assert response.headers["access-control-allow-origin"] == "*"
        preflight = client.options(f"{HALF}:predict", headers={"origin": "https://example.org"})
        assert (preflight.status_code, preflight.headers["access-control-allow-methods"]) == (200, "POST, GET")
        assert ':tensorflow:serving:request_count{model_name="batch",status="DEADLINE_EXCEEDED"} 1' in client.get("/metrics").text
        assert client.get("/monitoring/prometheus/metrics").status_code == 404
