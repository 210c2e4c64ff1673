"""Label readers, one small file per format.

A reader has `NAME`, `sniff(path) -> bool` and `read(path, grid, classes) -> Label`.
"""
