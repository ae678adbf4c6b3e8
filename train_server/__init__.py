"""A spec and data in, a version's artefacts out."""

import windtunnel  # noqa: F401  # which sees to it that ONNX Runtime reports to nobody
