"""Flower's JAX quickstart, on handwritten digits."""
