"""Stitching: overlapping windows of values become one raster without seams, row by row."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from poreseg.images.windows import Window

RIM = 16  # px at a window's edge affected by padding, used only where no other window reaches
FLOOR = 1e-4  # weight on the rim; inside it is 1


@lru_cache(maxsize=16)
def weight(height: int, width: int, overlap: int) -> NDArray[np.float32]:
    """Weight (H, W) of a window's pixels: 1 inside, down to `FLOOR` on each axis over the overlap."""

    def line(length: int) -> NDArray[np.float64]:
        depth = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5  # px from the edge
        rim = min(RIM, overlap / 4)
        return np.clip((depth - rim) / max(1.0, overlap - 2 * rim), FLOOR, 1)

    return np.outer(line(height), line(width)).astype(np.float32)


def stitch(
    height: int,
    width: int,
    parts: Iterable[tuple[Window, NDArray[np.float32]]],
    overlap: int,
    bands: int = 1,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Merge windows by weighted mean, yielding rows as soon as no later window reaches them.

    Memory holds one row of windows. A running mean keeps values on which windows agree
    bit-identical.

    Parameters
    ----------
    height, width
        Of the raster, in px.
    parts
        Windows of one size, sorted by row, each with values (B, H, W). They may reach over the
        raster's border. Pixels that no window covers become NaN.
    overlap
        What neighbouring windows share, in px.
    bands
        B.

    Yields
    ------
    First row, and values (B, rows, width); the rows follow each other without a gap.
    """
    top = 0  # first row that is not given yet
    mean = np.zeros((bands, 0, width), np.float32)
    seen = np.zeros((0, width), np.float32)
    for window, values in parts:
        if window.row > top:
            yield from _finished(top, min(window.row, height), mean, seen)
            done = window.row - top
            mean, seen = _shifted(mean, done), _shifted(seen, done)
            top = window.row
        lacking = window.row + window.height - top - seen.shape[0]
        if lacking > 0:
            mean = np.pad(mean, ((0, 0), (0, lacking), (0, 0)))
            seen = np.pad(seen, ((0, lacking), (0, 0)))
        part = window.inside(top + seen.shape[0], width)
        here = Window(part.row - top, part.col, part.height, part.width).slices
        there = Window(part.row - window.row, part.col - window.col, part.height, part.width).slices
        added = weight(window.height, window.width, overlap)[there]
        seen[here] += added
        share = added / seen[here]
        mean[:, *here] += share * (values[:, *there] - mean[:, *here])
    yield from _finished(top, height, mean, seen)


def _shifted(buffer: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """A buffer (..., h, width) moved up by `rows` and padded with zeros."""
    kept = buffer[..., rows:, :]
    moved = np.zeros_like(buffer)
    moved[..., : kept.shape[-2], :] = kept
    return moved


def _finished(
    top: int, end: int, mean: NDArray[np.float32], seen: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Rows from `top` to `end`; beyond the buffer (no window) NaN, in blocks of 256 or its height."""
    rows = min(end - top, seen.shape[0])
    if rows > 0:
        yield top, np.where(seen[:rows] > 0, mean[:, :rows], np.float32(np.nan))
    block = max(256, seen.shape[0])
    for row in range(top + max(rows, 0), end, block):
        size = (len(mean), min(block, end - row), mean.shape[2])
        yield row, np.full(size, np.nan, np.float32)
