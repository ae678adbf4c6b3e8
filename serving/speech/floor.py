"""The floor of the speech server: the same gRPC stack and messages, and no model. For benchmarks alone.

python -m serving.speech.floor HOST:PORT
"""

import asyncio
from typing import Annotated

import grpc
import numpy as np
import typer
import uvloop

from serving.speech.protos import dlserver_pb2, dlserver_pb2_grpc
from windtunnel.process import die_with_parent
from windtunnel.program import run_program


class Floor(dlserver_pb2_grpc.DLServerServicer):
    """Reads a clip, and answers the same label to each."""

    async def Infer(self, request: dlserver_pb2.InferenceRequest, context: grpc.aio.ServicerContext) -> dlserver_pb2.InferenceResponse:
        """Read the samples, as the speech server does."""
        np.array(request.audio_samples, np.float32)
        return dlserver_pb2.InferenceResponse()


async def serve(endpoint: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    dlserver_pb2_grpc.add_DLServerServicer_to_server(Floor(), server)
    server.add_insecure_port(endpoint)
    await server.start()
    await asyncio.Event().wait()


def main(endpoint: Annotated[str, typer.Argument(help="HOST:PORT")]) -> None:
    """Answer Infer without a model."""
    die_with_parent()
    uvloop.run(serve(endpoint))


if __name__ == "__main__":
    run_program(main)
