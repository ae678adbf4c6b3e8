import windtunnel  # noqa: F401  # which sees to it that ONNX Runtime reports to nobody
