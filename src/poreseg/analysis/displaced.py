"""Displaced: labels that are shifted against their images.

A label made on another slice of a stack, on a cropped copy, or on an image before its drift was
corrected is right in shape but wrong in place. A network learns little from it and scores badly
against it even where it is right; but the pores it predicts show how far the label is off.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from poreseg.classes import PORE, UNKNOWN
from poreseg.images.windows import grid

REACH = 16  # px, largest shift tried in each direction
LEAST = 2  # px; outlining by hand or shadows beside pores explain a shift of one
BETTER = 0.05  # IoU gained; labels in place gain at most 0.015 (docs/accuracy.md)
FITS = 0.5  # IoU after the shift: poorly predicted pores say nothing about a label
WINDOW = 1024  # px, side of the part that is compared at once


@dataclass(frozen=True)
class Displaced:
    """The shift at which a label fits: px down and to the right, with the IoU there."""

    rows: int
    cols: int
    iou: float

    def __str__(self) -> str:
        """The shift in words.

        >>> str(Displaced(-5, 0, 0.65)), str(Displaced(2, 3, 0.8))
        ('5 px up', '2 px down and 3 px to the right')
        """
        parts = [
            (self.rows, "down" if self.rows > 0 else "up"),
            (self.cols, "to the right" if self.cols > 0 else "to the left"),
        ]
        return " and ".join(f"{abs(px)} px {way}" for px, way in parts if px)


def displaced(pore: NDArray[np.bool_], label: NDArray[np.uint8]) -> Displaced | None:
    """The shift of a label (H, W; 0, 1, 255 unknown) onto predicted pores (H, W), if displaced.

    None unless the best shift of up to `REACH` px each way is at least `LEAST` px, gains at
    least `BETTER` of IoU and reaches an IoU of `FITS`.
    """
    height, width = pore.shape
    padded = np.pad(pore, REACH)
    hit = found = np.zeros((2 * REACH + 1, 2 * REACH + 1))  # by shift in rows and columns
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
    """Number of pixels that a part shares with its surroundings, by shift."""
    return np.rint(cv2.matchTemplate(around, part.astype(np.float32), cv2.TM_CCORR))
