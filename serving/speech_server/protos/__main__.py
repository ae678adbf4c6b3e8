"""Regenerate the Python modules of the .proto files. They are committed, so that only a change of the protocol needs grpcio-tools.

Use a grpcio-tools no newer than the oldest supported grpcio and protobuf.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from windtunnel.settings import ROOT

PROTOS = ("serving/speech_server/protos/dlserver.proto", "serving/speech_server/protos/speech.proto")


def generate(out: Path) -> None:
    """Write `serving/speech_server/protos/*_pb2.py`, their types and gRPC stubs below `out`.

    It runs in a separate process, because protoc crashes next to other libraries that contain protobuf.

    Raises:
        CalledProcessError: protoc failed; the reason is on stderr.
    """
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *PROTOS], check=True)


if __name__ == "__main__":
    generate(ROOT)
