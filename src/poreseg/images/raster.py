"""The canonical raster: a tiled GeoTIFF, written and read by window.

A canonical raster keeps the source's dtype, bands, CRS and transform. Its mask marks the
pixels that show specimen; its tags carry the pixel size, the gray levels that the network
sees as black and white, and the source's digest.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window as RasterioWindow
from tifffile import TiffFile, TiffFileError

from poreseg.files import no_room, whole
from poreseg.images.windows import Window

BLOCK = 256  # px, the side of a raster's blocks
STRIP_PX = 2**24  # processed at once where a raster need not be in memory whole
PNG_END = bytes.fromhex("0000000049454e44ae426082")  # the IEND chunk
CACHE_BYTES = 128 * 2**20  # of GDAL's block cache; its default is a share of the memory

# Photos have no georeference, so the warning is of no use.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


@contextmanager
def new_raster(
    path: Path | str,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    nodata: float | None = None,
    crs: CRS | None = None,
    transform: Affine | None = None,
    tags: Mapping[str, Any] | None = None,
    colormap: Mapping[int, tuple[int, ...]] | None = None,
) -> Iterator[rasterio.io.DatasetWriter]:
    """Write a tiled, compressed GeoTIFF (C, H, W) by windows, whole or not at all."""
    count, height, width = shape
    is_float = np.issubdtype(dtype, np.floating)
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": count, "height": height, "width": width,
        "dtype": dtype, "crs": crs, "transform": transform, "nodata": nodata,
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate",
        # floats hardly shrink, and tifffile alone cannot undo their predictor
        "predictor": 1 if is_float else 2, "zlevel": 1 if is_float else 6,
        "bigtiff": "IF_SAFER", "interleave": "pixel",
    }  # fmt: skip
    with whole(path) as temporary:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_CACHEMAX=CACHE_BYTES),
            rasterio.open(temporary, "w", **profile) as target,
        ):
            if colormap is not None:
                target.write_colormap(1, dict(colormap))
            target.update_tags(**{key: str(value) for key, value in (tags or {}).items()})
            yield target
        if not _is_whole(temporary):  # GDAL reports no error if the last blocks fill the disk
            raise no_room(path)


def _is_whole(tiff: Path) -> bool:
    """Whether a TIFF has all the blocks that its directories name."""
    try:
        with TiffFile(tiff) as file:
            ends = [start + length for page in file.pages
                    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]  # fmt: skip
    except (TiffFileError, OSError):
        return False
    return bool(ends) and max(ends) <= tiff.stat().st_size


@contextmanager
def new_png(path: Path | str, shape: tuple[int, int]) -> Iterator[rasterio.io.DatasetWriter]:
    """Write an RGB PNG (H, W) of any size by windows, whole or not at all."""
    with whole(path) as temporary:
        # GDAL writes PNG only as a copy of a file
        pixels = temporary.with_name(f"{temporary.name}.tif")
        try:
            with new_raster(pixels, (3, *shape), np.uint8) as target:
                yield target
            with rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=CACHE_BYTES):
                rasterio.shutil.copy(pixels, temporary, driver="PNG")
            with temporary.open("rb") as file:
                file.seek(-len(PNG_END), os.SEEK_END)
                if file.read() != PNG_END:
                    raise no_room(path)
        finally:
            pixels.unlink(missing_ok=True)


def write_raster(
    path: Path | str,
    bands: NDArray[Any],
    *,
    valid: NDArray[np.bool_] | None = None,
    **about: Any,
) -> None:
    """Write a raster that is in memory.

    Parameters
    ----------
    bands
        (C, H, W) or (H, W).
    valid
        (H, W) bool, stored as the file's own mask; use `nodata` instead for rasters that
        people open elsewhere.
    about
        As `new_raster` takes it: nodata, crs, transform, tags, colormap.
    """
    bands = bands[None] if bands.ndim == 2 else bands
    with new_raster(path, bands.shape, bands.dtype, **about) as target:
        target.write(bands)
        if valid is not None:
            target.write_mask(valid)


class Raster:
    """A raster of our own making, read by window. Open it with `open_raster`."""

    def __init__(self, source: rasterio.DatasetReader) -> None:
        self._source = source
        self.height, self.width = source.height, source.width  # px
        self.crs, self.transform = source.crs, source.transform
        self.tags: dict[str, str] = source.tags()

    @property
    def frame(self) -> Window:
        """The whole raster as a window."""
        return Window(0, 0, self.height, self.width)

    @property
    def pixel_size_um(self) -> float | None:
        """Pixel size in micrometres, None if unknown."""
        size = self.tags.get("PIXEL_SIZE_UM")
        return float(size) if size else None

    @property
    def planes(self) -> int:
        """Number of planes in the image's file, of which this is one."""
        return int(self.tags.get("PLANES", 1))

    def strips(self) -> Iterator[Window]:
        """Windows of the full width, from top to bottom, of about `STRIP_PX` pixels."""
        rows = max(1, STRIP_PX // (self.width * BLOCK)) * BLOCK
        for row in range(0, self.height, rows):
            yield Window(row, 0, min(rows, self.height - row), self.width)

    def thinned(self, read: Callable[[Window], NDArray[Any]], step: int) -> NDArray[Any]:
        """Every `step`th row and column of what `read`, a method of this raster, gives; strip by strip."""
        return np.concatenate([read(strip)[strip.every(step)].copy() for strip in self.strips()])

    def band(self, window: Window | None = None, number: int = 1) -> NDArray[Any]:
        """One band (H, W), the first one by default, within a window."""
        band: NDArray[Any] = self._source.read(number, window=to_rasterio(window))
        return band

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Specimen mask (H, W) bool."""
        mask: NDArray[np.bool_] = self._source.dataset_mask(window=to_rasterio(window)) > 0
        return mask

    def rgb8(self, window: Window | None = None, *, inverse: bool = False) -> NDArray[np.uint8]:
        """Network input: `shown` or its inverse, black where there is no specimen."""
        rgb = 255 - self.shown(window) if inverse else self.shown(window)
        rgb[~self.valid(window)] = 0
        return rgb

    def shown(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Pixels (H, W, 3) uint8, stretched between the raster's gray levels.

        Gray becomes three equal bands; of more than three bands the first three count.
        """
        count = min(self._source.count, 3)
        bands = self._source.read(list(range(1, count + 1)), window=to_rasterio(window))
        return to_rgb8(bands, float(self.tags["LOW"]), float(self.tags["HIGH"]))


def to_rgb8(bands: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Bands (C, H, W) as (H, W, 3) uint8, black from `low` down and white from `high` up."""
    if bands.dtype in (np.uint8, np.uint16):  # few values: a table is several times faster
        table = _to_uint8(np.arange(np.iinfo(bands.dtype).max + 1), low, high)
        shown = table.take(bands)
    else:
        shown = _to_uint8(bands, low, high)
    return np.asarray(cv2.merge(list(shown) if len(shown) == 3 else [shown[0]] * 3))


def _to_uint8(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    wide = values.dtype.itemsize > 2 and values.dtype != np.float32  # float32 merges close values
    values = values.astype(np.float64 if wide else np.float32)
    values = np.nan_to_num(values, posinf=0, neginf=0)  # no specimen there
    scaled = (values - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@contextmanager
def open_raster(path: Path | str) -> Iterator[Raster]:
    """Open one of our rasters for reading by window."""
    with rasterio.open(path) as source:
        yield Raster(source)


def source_of(path: Path | str) -> str | None:
    """Digest of the file that a raster was made of; None if the raster is missing or damaged."""
    try:
        with open_raster(path) as raster:
            return raster.tags.get("SOURCE_SHA256")
    except RasterioIOError:
        return None


def keep_open(path: Path | str) -> Raster:
    """Open one of our rasters until it is garbage-collected."""
    return Raster(rasterio.open(path))


def to_rasterio(window: Window | None) -> RasterioWindow | None:
    """A window as rasterio takes it; None is the whole raster."""
    if window is None:
        return None
    return RasterioWindow(window.col, window.row, window.width, window.height)
