"""Synthetic specimens with labels exact by construction: the demo study, and training data."""
