"""Pore segmentation from a few labelled images."""

__version__ = "0.1.0"
