"""The no-op baseline of the speech server: the same gRPC stack and messages, without a model. Only for benchmarks.

python -m benchmarks.speech.no_op_server HOST:PORT
"""

import asyncio
from typing import Annotated

import grpc
import numpy as np
import typer
import uvloop

from serving.speech_server.protos import dlserver_pb2, dlserver_pb2_grpc
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.platform.program import run_program


class NoOp(dlserver_pb2_grpc.DLServerServicer):
    """Read each clip and always answer with the same label."""

    async def Infer(self, request: dlserver_pb2.InferenceRequest, context: grpc.aio.ServicerContext) -> dlserver_pb2.InferenceResponse:
        """Read the samples as the speech server does, and return a constant label."""
        np.array(request.audio_samples, np.float32)
        return dlserver_pb2.InferenceResponse()


async def serve(endpoint: str) -> None:
    """Serve until the process ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    dlserver_pb2_grpc.add_DLServerServicer_to_server(NoOp(), server)
    server.add_insecure_port(endpoint)
    await server.start()
    await asyncio.Event().wait()


def main(endpoint: Annotated[str, typer.Argument(help="HOST:PORT")]) -> None:
    """Answer Infer without a model."""
    die_with_parent()
    uvloop.run(serve(endpoint))


if __name__ == "__main__":
    run_program(main)
