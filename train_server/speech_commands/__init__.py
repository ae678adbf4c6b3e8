"""Spoken commands: networks on log-mel features, and the program that trains them."""
