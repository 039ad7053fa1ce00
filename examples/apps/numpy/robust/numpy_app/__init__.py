"""Flower's NumPy quickstart, on handwritten digits."""
