"""The values of every label raster and mask."""

MATRIX = 0
PORE = 1
UNKNOWN = 255  # in labels neither trained on nor scored; in masks no specimen
