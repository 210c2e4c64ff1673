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

    def every(self, step: int) -> tuple[slice, slice]:
        """Slices of the window for every `step`th row and column of the raster.

        >>> Window(4, 0, 4, 9).every(3)  # row 6 is its third
        (slice(2, None, 3), slice(0, None, 3))
        """
        return slice(-self.row % step, None, step), slice(-self.col % step, None, step)

    def around(self, margin: int, height: int, width: int) -> tuple["Window", tuple[slice, slice]]:
        """The window with a margin, cut to a raster (H, W), and its own slices in that.

        >>> Window(0, 10, 4, 4).around(2, 100, 100)
        (Window(row=0, col=8, height=6, width=8), (slice(0, 4, None), slice(2, 6, None)))
        """
        grown = Window(
            self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin
        )
        grown = grown.inside(height, width)
        return grown, Window(
            self.row - grown.row, self.col - grown.col, self.height, self.width
        ).slices

    def inside(self, height: int, width: int) -> "Window":
        """The part within a raster (H, W)."""
        row, col = max(self.row, 0), max(self.col, 0)
        bottom, right = min(self.row + self.height, height), min(self.col + self.width, width)
        return Window(row, col, bottom - row, right - col)

    def beyond(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Px beyond the borders of a raster (H, W): (above, below), (left, right).

        >>> Window(-2, 5, 10, 10).beyond(6, 20)
        ((2, 2), (0, 0))
        """
        part = self.inside(height, width)
        above, left = part.row - self.row, part.col - self.col
        return (above, self.height - part.height - above), (left, self.width - part.width - left)


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


def covering(
    height: int,
    width: int,
    window: int,
    overlap: int,
    stride: int = 1,
    far: tuple[bool, bool] = (False, False),
) -> list[Window]:
    """Windows of one size that cover a raster (H, W), neighbours sharing at least `overlap` px.

    Parameters
    ----------
    window, overlap
        Largest side of a window, and least overlap of neighbours, in px. Windows are as
        small as their number allows, so that they overlap no more than necessary.
    stride
        Windows start at multiples of it, so that a downsampling network has the same pixel
        grid in each as in the whole raster. The last ones reach over the far border by
        less than a stride.
    far
        Count rows, columns from the far border, as in a mirrored raster.

    Returns
    -------
    Windows from top to bottom, in each row from left to right.
    """

    def line(length: int, from_far: bool) -> tuple[list[int], int]:
        steps = -(-length // stride)
        most, shared = max(1, window // stride), -(-overlap // stride)
        count = max(1, -(-(steps - shared) // max(1, most - shared)))
        size = min(most, -(-(steps + (count - 1) * shared) // count))
        found = [stride * s for s in starts(steps, size, max(1, size - shared))]
        if from_far:
            found = [length - start - stride * size for start in reversed(found)]
        return found, stride * size

    rows, tall = line(height, far[0])
    cols, wide = line(width, far[1])
    return [Window(row, col, tall, wide) for row in rows for col in cols]


def grid(height: int, width: int, size: int) -> Iterator[Window]:
    """The raster's blocks: windows side by side from the top left, cut at the far borders.

    >>> [w.width for w in grid(1, 600, 256)]
    [256, 256, 88]
    """
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(row, col, min(size, height - row), min(size, width - col))
