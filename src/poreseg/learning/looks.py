"""Looks: channel statistics of an image in a network's middle layers, to compare images by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import Raster, open_raster
from poreseg.images.windows import Window, starts
from poreseg.learning.sliding import STRIDE, Predictor

Look = NDArray[np.float32]  # (2, C): mean and variance of each channel
SIDE, ACROSS = 256, 4  # px, side of a look's windows; at most so many per direction
MOST = 100  # images whose looks are kept


def look_of(model: Predictor, raster: Raster, *, inverse: bool = False) -> Look | None:
    """Look (2, C) of a raster, or of its inverse, from windows spread evenly over it.

    None where there is no specimen, or the encoder has no batch norm.
    """
    chosen = spread_windows(raster)
    if not chosen:
        return None
    pixels = np.stack([padded(raster.rgb8(window, inverse=inverse)) for window in chosen])
    mean, square = model.moments(pixels).mean(axis=0)
    return np.stack([mean, square - mean**2]) if mean.size else None


def looks_of(model: Predictor, rasters: Sequence[Path]) -> dict[str, Look]:
    """Looks by image name, of at most `MOST` rasters, evenly spaced."""
    found = {}
    for path in rasters[:: -(-len(rasters) // MOST)]:
        with open_raster(path) as raster:
            if (look := look_of(model, raster)) is not None:
                found[path.stem] = look
    return found


def spread_windows(raster: Raster) -> list[Window]:
    """Windows of at most `SIDE` px, spread evenly over a raster; none where there is no specimen.

    Only those with the most specimen (all full ones, if any): no frames or data bars.
    """
    rows, cols = (_spread(length) for length in (raster.height, raster.width))
    windows = [Window(row, col, SIDE, SIDE).inside(raster.height, raster.width) for row in rows for col in cols]  # fmt: skip
    shares = [raster.valid(window).mean() for window in windows]
    most = max(shares)
    return [window for window, share in zip(windows, shares, strict=True) if share == most > 0]


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A window (H, W, 3), mirrored to multiples of `STRIDE`."""
    below, right = (-length % STRIDE for length in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")


def _spread(length: int) -> list[int]:
    """First pixels of a few windows along a line, evenly spread."""
    every = starts(length, SIDE, SIDE)
    chosen = np.linspace(0, len(every) - 1, min(ACROSS, len(every)))
    return [every[round(i)] for i in chosen]
