"""Loaded models: the runtimes that hold them, their inputs and their outputs."""
