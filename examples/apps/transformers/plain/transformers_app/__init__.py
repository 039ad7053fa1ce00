"""Flower's Hugging Face quickstart, a tiny BERT on synthetic reviews."""
