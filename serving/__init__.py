import windtunnel  # noqa: F401  # disables ONNX Runtime's telemetry
