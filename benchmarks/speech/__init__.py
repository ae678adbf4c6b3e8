"""Experiments with the speech server."""
