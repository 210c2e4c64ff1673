"""Pure-integer window geometry: where windows start, and how they cover a raster."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels: first row and column, height and width."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array (H, W)."""
        return (
            slice(self.row, self.row + self.height),
            slice(self.col, self.col + self.width),
        )


def starts(length: int, window: int, step: int) -> list[int]:
    """First pixels of equal windows that cover a line, evenly spread.

    The last window ends with the line; the spacing is as even as integers allow and
    never more than `step`. A line shorter than a window has one window that starts at 0.

    >>> starts(110, 64, 32)
    [0, 23, 46]
    >>> starts(40, 64, 32)
    [0]
    """
    if length < 1 or window < 1 or not 1 <= step <= window:
        raise ValueError(
            f"length {length}, window {window}, step {step}: wanted 1 <= step <= window"
        )
    if length <= window:
        return [0]
    count = -(-(length - window) // step) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def covering(height: int, width: int, window: int, overlap: float) -> list[Window]:
    """Windows of one size that cover a raster (H, W), neighbours overlapping by `overlap`.

    Windows are cut to the raster only where it is smaller than a window.
    """
    step = max(1, round(window * (1 - overlap)))
    return [
        Window(row, col, min(window, height), min(window, width))
        for row in starts(height, window, step)
        for col in starts(width, window, step)
    ]


def grid(height: int, width: int, size: int) -> Iterator[Window]:
    """The raster's blocks: windows side by side from the top left, cut at the far borders.

    >>> [w.width for w in grid(1, 600, 256)]
    [256, 256, 88]
    """
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(row, col, min(size, height - row), min(size, width - col))
