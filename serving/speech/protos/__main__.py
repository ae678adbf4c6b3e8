"""Make the Python modules of the .proto files again; they are committed, so that only who changes a protocol needs grpcio-tools.

Take a grpcio-tools no newer than the oldest grpcio and protobuf that are to import what it makes.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

from windtunnel.settings import ROOT

PROTOS = ("serving/speech/protos/dlserver.proto", "serving/speech/protos/speech.proto")


def generate(out: Path) -> int:
    """Write `serving/speech/protos/*_pb2.py`, their types and gRPC stubs below `out`; returns protoc's exit code."""
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    return int(protoc.main(["protoc", *includes, f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}", *PROTOS]))


if __name__ == "__main__":
    sys.exit(generate(ROOT))
