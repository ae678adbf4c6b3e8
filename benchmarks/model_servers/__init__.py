"""Experiments with TorchServe and TensorFlow Serving."""
