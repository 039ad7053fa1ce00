"""Flower's TensorFlow quickstart, Keras on handwritten digits."""
