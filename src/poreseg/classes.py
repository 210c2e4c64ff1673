"""The values of every label raster and mask."""

MATRIX = 0
PORE = 1
UNKNOWN = 255  # ignore value: unlabelled, or in masks not specimen

OURS = {"CLASSES": "0 matrix, 1 pore, 255 unknown"}  # tag of masks written by poreseg
NOTHING_KNOWN = "all labels of training images are unknown throughout; mark pores and matrix in some"  # error message
