"""Drawn specimens, with labels that are exact by construction: the demo study, and what is learned from."""
