"""Label readers, one small file per format; adding one touches nothing but the registry.

A reader has `NAME`, `sniff(path) -> bool` and `read(path, grid, classes) -> Label`; one whose
files may hold several images also has `images(path)`, pairs of name and content. It may raise
anything on malformed content: the registry makes it one line.
"""
