"""Training: makes a version's artefacts from a spec and data."""

import windtunnel  # noqa: F401  # disables ONNX Runtime's telemetry
