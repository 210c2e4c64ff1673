"""Displaced: labels that lie beside what they outline.

A label of another slice of a stack, of a cropped copy, or of an image from before its drift was
corrected is right in shape and wrong in place. A network learns little from it and is scored
badly by it, though its pores are right; but the pores that it finds show how far the label is off.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from poreseg.classes import PORE, UNKNOWN
from poreseg.images.windows import grid

REACH = 16  # px, how far it is looked for each way
LEAST = 2  # px: by one a hand that outlines, or a shadow beside each pore, is off as well
BETTER = 0.05  # IoU; labels in their place gain 0.015 at most elsewhere (docs/accuracy.md)
FITS = 0.5  # IoU that it is to have then: pores that are hardly found say nothing about a label
WINDOW = 1024  # px, that are compared at once


@dataclass(frozen=True)
class Displaced:
    """Where a label would fit: moved by `rows` down and `cols` to the right, with this IoU."""

    rows: int
    cols: int
    iou: float

    def __str__(self) -> str:
        """In words.

        >>> str(Displaced(-5, 0, 0.65)), str(Displaced(2, 3, 0.8))
        ('5 px up', '2 px down and 3 px to the right')
        """
        parts = [
            (self.rows, "down" if self.rows > 0 else "up"),
            (self.cols, "to the right" if self.cols > 0 else "to the left"),
        ]
        return " and ".join(f"{abs(px)} px {way}" for px, way in parts if px)


def displaced(pore: NDArray[np.bool_], label: NDArray[np.uint8]) -> Displaced | None:
    """Where a label (H, W) of 0, 1 and 255 unknown fits the pores (H, W) that were found.

    None where it lies well: where no move of `LEAST` to `REACH` px is the best and gains `BETTER`
    of IoU, and where it fits nowhere.
    """
    height, width = pore.shape
    padded = np.pad(pore, REACH)
    hit = found = np.zeros((2 * REACH + 1, 2 * REACH + 1))  # by rows and columns of the move
    for window in grid(height, width, WINDOW):
        rows, cols = (slice(side.start, side.stop + 2 * REACH) for side in window.slices)
        around, part = padded[rows, cols].astype(np.float32), label[window.slices]
        hit = hit + _overlap(around, part == PORE)
        found = found + _overlap(around, part != UNKNOWN)
    iou = hit / np.maximum(1, found + np.count_nonzero(label == PORE) - hit)
    row, col = np.unravel_index(iou.argmax(), iou.shape)
    best = Displaced(int(row) - REACH, int(col) - REACH, float(iou[row, col]))
    far = max(abs(best.rows), abs(best.cols)) >= LEAST
    return best if far and best.iou >= max(FITS, iou[REACH, REACH] + BETTER) else None


def _overlap(around: NDArray[np.float32], part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pixels that a part shares with what is around it, wherever it is laid."""
    return np.rint(cv2.matchTemplate(around, part.astype(np.float32), cv2.TM_CCORR))
