"""Experiments with the trainers and the parity certificate."""
