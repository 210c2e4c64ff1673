"""The values of every label raster and mask."""

MATRIX = 0
PORE = 1
UNKNOWN = 255  # in labels neither trained on nor scored; in masks no specimen

OURS = {"CLASSES": "0 matrix, 1 pore, 255 unknown"}  # a tag of the masks that poreseg writes
NOTHING_KNOWN = "all labels of training images are unknown throughout; mark pores and matrix in some"  # what is told where nobody teaches
