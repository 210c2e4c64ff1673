"""JPEG and WebP, which Pillow reads whole: it turns by EXIF and converts CMYK; GDAL does not.

NumPy arrays as well, mapped into memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from poreseg.errors import PoresegError, warn
from poreseg.images import scale
from poreseg.images.source import Choice, InMemory, Picture, Source, pick_bands
from poreseg.images.windows import Window

PHOTOS = (".jpg", ".jpeg", ".webp")
ARRAYS = (".npy",)


@contextmanager
def open_photo(path: Path, choice: Choice) -> Iterator[Source]:
    """A JPEG or WebP, upright and in gray or RGB."""
    with Image.open(path) as file:
        if file.mode[0] in "IF":  # no photo has these, and they would be cut to 8 bits
            raise PoresegError(
                f"{path}: is a {file.format} of more than 8 bits; rename it by its format"
            )
        turn = file.getexif().get(ExifTags.Base.Orientation, 1)
        on_map = file.format == "JPEG" and turn == 1
        if 2 <= turn <= 8:
            warn(f"{path}: turned or mirrored by its EXIF orientation ({turn}), as viewers and browsers show it; "
                 "a label that was drawn on what is stored would lie elsewhere")  # fmt: skip
        image = ImageOps.exif_transpose(file)
        alpha = np.asarray(image.getchannel("A")) if image.mode in ("RGBA", "LA") else None
        pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    bands = np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))
    valid = np.ones(bands.shape[1:], bool) if alpha is None else alpha > 0
    source = InMemory.of(path, Picture(_chosen(path, bands, choice), valid, alpha=alpha))
    if on_map:  # a world file tells the place of what is stored, not of what is turned
        with rasterio.open(path, driver="JPEG") as stored:
            source.crs, source.transform = stored.crs, stored.transform
        source.scales = scale.from_crs(source.crs, source.transform, path.name)
    yield source


@contextmanager
def open_array(path: Path, choice: Choice) -> Iterator[Source]:
    """A NumPy array (H, W), (H, W, C) or (C, H, W); the axis of bands is the one of at most 4."""
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
    bands = _chosen(path, bands, choice)
    yield _Array.of(path, Picture(bands, np.broadcast_to(np.True_, bands.shape[1:])))


def _chosen(path: Path, bands: NDArray[Any], choice: Choice) -> NDArray[Any]:
    """The chosen bands; copied only where some are left out or change places."""
    chosen = pick_bands(path, choice, len(bands))
    whole = chosen == tuple(range(1, len(bands) + 1))
    return bands if whole else bands[[band - 1 for band in chosen]]


class _Array(InMemory):
    """NaN is looked for in what is read, so that the map is never read whole."""

    def _read(self, window: Window) -> Picture:
        part = super()._read(window)
        bands = np.ascontiguousarray(part.bands)
        if bands.dtype == np.float16:  # which GeoTIFF does not know
            bands = bands.astype(np.float32)
        if bands.dtype.kind != "f":
            return Picture(bands, np.ascontiguousarray(part.valid))
        return Picture(bands, np.isfinite(bands).all(axis=0))
