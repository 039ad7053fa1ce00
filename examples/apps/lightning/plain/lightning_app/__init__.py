"""Flower's PyTorch Lightning quickstart, on handwritten digits."""
