"""Make the Python modules of the .proto files again; they are committed, so that only who changes a protocol needs grpcio-tools.

Take a grpcio-tools no newer than the oldest grpcio and protobuf that are to import what it makes.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from windtunnel.settings import ROOT

PROTOS = ("serving/speech/protos/dlserver.proto", "serving/speech/protos/speech.proto")


def generate(out: Path) -> None:
    """Write `serving/speech/protos/*_pb2.py`, their types and gRPC stubs below `out`.

    In a process of its own: protoc crashes beside other libraries that hold protobuf.

    Raises:
        CalledProcessError: protoc says on stderr what is wrong.
    """
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *PROTOS], check=True)


if __name__ == "__main__":
    generate(ROOT)
