"""The pores of a mask of any size, each one whole, in parts that fit in memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as label_regions

from poreseg.classes import MATRIX, PORE
from poreseg.images.raster import Raster


def whole_pores(mask: Raster, connectivity: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Parts of a mask, from top to bottom, each with the pores that end in it and no others.

    Each pore is in one part, with the pixels around it. Pores that go on below wait for the
    next strips, so that memory holds a few strips and the tallest pore's rows: a mask that is
    all one pore is held whole.

    Parameters
    ----------
    connectivity
        2: pixels that touch at corners are one pore; 1: at edges only.

    Yields
    ------
    First row, and values (rows, W): pores of other parts are matrix there.
    """
    top, held = 0, np.empty((0, mask.width), np.uint8)
    fresh: list[NDArray[np.uint8]] = []
    for strip in mask.strips():
        fresh.append(mask.band(strip))
        ends = strip.row + strip.height == mask.height
        if sum(map(len, fresh)) < len(held) and not ends:
            continue  # a tall pore is labelled a few times, not once per strip
        values, fresh = np.concatenate([held, *fresh]), []
        regions = label_regions(values == PORE, connectivity=connectivity)
        goes_on = np.zeros(regions.max() + 1, bool)
        goes_on[regions[-1]] = not ends
        goes_on[0] = False
        waiting = goes_on[regions]
        yield top, np.where(waiting, np.uint8(MATRIX), values)
        rows = np.flatnonzero(waiting.any(axis=1))
        kept = max(rows[0] - 1, 0) if len(rows) else len(values) - 1  # one row shows what is above
        done = (values == PORE) & ~waiting
        held = np.where(done, np.uint8(MATRIX), values)[kept:]
        top += kept
