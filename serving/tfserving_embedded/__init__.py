"""TensorFlow Serving's API in one process, without its binary: the core."""
