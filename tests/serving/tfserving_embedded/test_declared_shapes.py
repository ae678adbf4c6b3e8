"""A picture of another size than the model declares is refused by the real server with LiteRT, however it batches."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx
import numpy as np
import pytest

from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.ports import free_ports

WRONG = [(1, 29, 29, 1), (1, 27, 28, 1), (3, 28, 27, 1), (1, 28, 28, 3), (28, 28, 1), (1, 28, 28)]
RIGHT, ROWS = (1, 28, 28, 1), (3, 28, 28, 1)
MEETING = "num_batch_threads { value: 1 } batch_timeout_micros { value: 20000 }"  # requests wait for each other
BATCHING = {
    "none": None,
    "as the platform starts it": "",
    "padded": f"{MEETING} pad_variable_length_inputs: true",
    "of allowed sizes": f"{MEETING} max_batch_size {{ value: 4 }} allowed_batch_sizes: 1 allowed_batch_sizes: 4",
    "split": f"{MEETING} enable_large_batch_splitting {{ value: true }} max_execution_batch_size {{ value: 2 }}",
}

Size = tuple[int, ...]


class Server(NamedTuple):
    grpc: EmbeddedServer
    rest: httpx.Client


@pytest.fixture(params=BATCHING)
def server(request: pytest.FixtureRequest, tmp_path: Path, models: Path) -> Iterator[Server]:
    """A server of the model `pictures`, which adds pixels up."""
    (port,) = free_ports(1)
    flags = [f"--model_base_path={models / 'pictures'}", "--prefer_tflite_model", f"--rest_api_port={port}"]
    if (text := BATCHING[request.param]) is not None:
        flags.append("--enable_batching")
    if text:
        (tmp_path / "batching").write_text(text)
        flags.append("--batching_parameters_file=batching")
    with (
        EmbeddedServer(tmp_path, *flags) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client,
    ):

        def listens() -> bool:
            try:
                return client.get("/v1/models/default").is_success
            except httpx.ConnectError:
                return False

        wait_for(listens, explain=lambda: server.log)
        yield Server(server, client)


def over_rest(server: Server, size: Size) -> tuple[object, object]:
    answer = server.rest.post("/v1/models/default:predict", json={"inputs": np.ones(size).tolist()})
    return answer.status_code, answer.json().get("error") or answer.json()["outputs"]


def over_grpc(server: Server, size: Size) -> tuple[object, object]:
    try:
        _, outputs = server.grpc.predict("default", {"x": np.ones(size, np.float32)})
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, outputs["y"].tolist()


def test_a_picture_of_another_size_is_refused(server: Server) -> None:
    """Each alone, and then many at a time with right ones, which are answered."""
    protocols: list[tuple[Callable[[Server, Size], tuple[object, object]], object, object]] = [
        (over_rest, 200, 400),
        (over_grpc, grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT),
    ]
    for ask, answered, refused in protocols:

        def expected(size: Size, answered: object = answered, refused: object = refused) -> tuple[object, object]:
            if size in WRONG:
                return refused, f"Cannot feed value of shape {list(size)} for input x, which has shape [-1, 28, 28, 1]"
            return answered, [784.0] * size[0]

        assert [ask(server, size) for size in WRONG] == [expected(size) for size in WRONG]
        asked = [RIGHT, *WRONG[:2], RIGHT, WRONG[2], ROWS] * 4
        with ThreadPoolExecutor(12) as clients:
            futures = [clients.submit(ask, server, size) for size in asked]
            assert [future.result() for future in futures] == [expected(size) for size in asked]
