"""Flower's PyTorch quickstart on handwritten digits."""
