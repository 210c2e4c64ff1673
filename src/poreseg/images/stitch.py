"""Stitching: overlapping windows of probabilities become one raster without seams."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from poreseg.images.windows import Window

SIGMA = 1 / 8  # of the window's side; the border then weighs e^-8 of the centre per axis
FLOOR = 1e-3  # of the centre's weight, so that corners seen by one window only keep full precision


@lru_cache(maxsize=16)
def weight(height: int, width: int) -> NDArray[np.float32]:
    """Gaussian weight (H, W) of a window's pixels: the network sees most around its centre."""

    def line(length: int) -> NDArray[np.float64]:
        position = (np.arange(length) + 0.5) / length - 0.5
        bell: NDArray[np.float64] = np.exp(-0.5 * (position / SIGMA) ** 2)
        return bell

    bell = np.outer(line(height), line(width))
    return np.maximum(bell / bell.max(), FLOOR).astype(np.float32)


def stitch(
    height: int, width: int, parts: Iterable[tuple[Window, NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """Weighted mean (H, W) of windows of values; the windows must cover the raster.

    Stitching the windows of an array gives the array back, to float32 precision.
    """
    total = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for window, values in parts:
        bell = weight(window.height, window.width)
        total[window.slices] += bell * values
        weights[window.slices] += bell
    assert weights.min() > 0, "the windows leave pixels uncovered"
    total /= weights
    return total
