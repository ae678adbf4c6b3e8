"""The core of Windtunnel: settings, spec, manifest, registry, data sets, the platform and the command line."""

import os

__version__ = "0.2.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # must be set before ONNX Runtime is imported
