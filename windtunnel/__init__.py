"""The words of Windtunnel as code: settings, spec, manifest, registry, data sets and the command line."""

import os

__version__ = "0.1.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime, which else tells its maker what it computes
