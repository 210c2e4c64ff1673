"""NumPy arrays, mapped into memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from poreseg.errors import PoresegError
from poreseg.images.source import Choice, InMemory, Picture, Source, chosen_bands
from poreseg.images.windows import Window

ARRAYS = (".npy",)


@contextmanager
def open_array(path: Path, choice: Choice) -> Iterator[Source]:
    """A NumPy array (H, W), (H, W, C) or else (C, H, W), with at most 4 bands C."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2:
        bands = array[None]
    elif array.ndim == 3 and array.shape[2] <= 4:
        bands = np.moveaxis(array, -1, 0)
    elif array.ndim == 3 and array.shape[0] <= 4:
        bands = array
    else:
        raise PoresegError(
            f"{path}: an array of shape {array.shape}; wanted (H, W), (H, W, 3) or (3, H, W)"
        )
    if bands.dtype == bool:
        bands = bands.view(np.uint8)
    if bands.dtype.kind not in "uif" or bands.size == 0:
        raise PoresegError(
            f"{path}: an array of {bands.dtype} and shape {array.shape}; wanted numbers"
        )
    bands = chosen_bands(path, bands, choice)
    yield _Array.of(path, Picture(bands, np.broadcast_to(np.True_, bands.shape[1:])))


class _Array(InMemory):
    """A memory-mapped array; each window is checked for NaN, never the whole file."""

    def _read(self, window: Window) -> Picture:
        part = super()._read(window)
        bands = np.ascontiguousarray(part.bands)
        if bands.dtype == np.float16:  # not a type of GeoTIFF
            bands = bands.astype(np.float32)
        if bands.dtype.kind != "f":
            return Picture(bands, np.ascontiguousarray(part.valid))
        return Picture(bands, np.isfinite(bands).all(axis=0))
