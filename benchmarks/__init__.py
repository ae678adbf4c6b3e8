"""Experiments about the product, run by `make bench-…`. They may import every other package; no other package imports them."""
