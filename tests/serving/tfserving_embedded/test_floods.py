"""Floods of HTTP/2 frames at the gRPC port: the server goes on, answers others, and does not keep the flood in memory."""

import time

import grpc
import numpy as np
import psutil
import pytest

from tests.http2_floods import FLOODS, closes_what_does_not_greet, survives
from tests.serving.tfserving_embedded.embedded_server import TIMEOUT, EmbeddedServer, predict_request

METHOD = "/tensorflow.serving.PredictionService/Predict"


def answered(server: EmbeddedServer) -> bool:
    """False if gRPC has ended the call because too many wait: a client tries again."""
    try:
        return server.half()[1] == 3.0
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
        return False


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_nobody_elses_service(server: EmbeddedServer, flood) -> None:
    survives(psutil.Process(server.process.pid), server.port, flood(METHOD), lambda: answered(server))


def test_ten_thousand_metadata_entries_are_refused(server: EmbeddedServer) -> None:
    metadata = [(f"key{number}", "value") for number in range(10_000)]
    with pytest.raises(grpc.RpcError) as error:
        server.prediction.Predict(predict_request("default", {"x": np.ones(1, np.float32)}), TIMEOUT, metadata=metadata)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answered(server)


def test_connections_that_do_not_greet_are_closed(server: EmbeddedServer) -> None:
    start = time.monotonic()
    closes_what_does_not_greet(server.port, lambda: answered(server))
    assert time.monotonic() - start < 110  # gRPC itself waits for 120 s
