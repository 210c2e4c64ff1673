"""Label readers, one small file per format; adding one touches nothing but the registry.

A reader has `NAME`, `sniff(path) -> bool` and `read(path, grid, classes) -> Label`; one whose
files may hold several images has `images(path)`, their names, too. It may raise what it likes
on malformed content: the registry tells it in one line.
"""
