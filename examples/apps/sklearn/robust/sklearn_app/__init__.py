"""Flower's scikit-learn quickstart, logistic regression on handwritten digits."""
