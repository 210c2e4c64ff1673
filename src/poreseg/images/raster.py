"""The one place that opens rasters: people's pictures, and the canonical GeoTIFF.

A canonical raster keeps the source's dtype, bands, CRS and transform. Its mask says which
pixels show the specimen; its tags carry the pixel size, the gray levels that the network
sees as black and white, and the source's digest.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from poreseg.errors import PoresegError, warn
from poreseg.files import whole
from poreseg.images.windows import Window

BLOCK = 256  # px, the side of a raster's blocks
JPEG = (".jpg", ".jpeg")

# A plain photo has no georeference; that is no news here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


@dataclass(frozen=True)
class Picture:
    """A picture in memory.

    `bands` is (C, H, W) in the source's dtype; `valid` is (H, W) bool, False where there
    is no specimen (nodata, transparency, NaN); `palette` maps the values of one band to
    RGBA where the source has a colour table.
    """

    bands: NDArray[Any]
    valid: NDArray[np.bool_]
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    palette: dict[int, tuple[int, ...]] | None = None
    alpha: NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bands.shape[1], self.bands.shape[2]


def load_picture(path: Path | str) -> Picture:
    """Read a TIFF, GeoTIFF, PNG or JPEG whole.

    Alpha becomes `valid`, CMYK becomes RGB, and a JPEG's EXIF rotation is applied.

    Raises
    ------
    PoresegError
        The file is missing, truncated, or no picture.
    """
    path = Path(path)
    try:
        return _load_jpeg(path) if path.suffix.lower() in JPEG else _load_with_gdal(path)
    except (RasterioError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise PoresegError(
            f"{path}: cannot be read as an image, it is truncated or of another format "
            f"({error}); export it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise PoresegError(f"{path}: {error}; save images of this size as TIFF") from None


def _load_jpeg(path: Path) -> Picture:
    """Pillow turns by EXIF and converts CMYK; GDAL does neither."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        image = image if image.mode == "L" else image.convert("RGB")
        pixels = np.asarray(image)
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return Picture(np.ascontiguousarray(bands), np.ones(bands.shape[1:], bool))


def _load_with_gdal(path: Path) -> Picture:
    if path.suffix.lower() == ".png":
        with Image.open(path) as file:
            file.verify()  # GDAL reads a truncated PNG as black, without an error
    with rasterio.open(path) as source:
        if pages := len(source.subdatasets):
            warn(f"{path}: {pages} pages; the first one is taken. Save each page as an image")
        bands = source.read()
        palette = None
        if source.count == 1 and source.colorinterp[0] == ColorInterp.palette:
            palette = source.colormap(1)
        alpha = None
        if source.count in (2, 4) and source.colorinterp[-1] == ColorInterp.alpha:
            bands, alpha = bands[:-1], bands[-1]
        valid = source.dataset_mask() > 0
        crs, transform = source.crs, source.transform
    if np.issubdtype(bands.dtype, np.floating):
        valid &= np.isfinite(bands).all(axis=0)
    return Picture(bands, valid, crs, transform, palette, alpha)


def write_raster(
    path: Path | str,
    bands: NDArray[Any],
    *,
    valid: NDArray[np.bool_] | None = None,
    nodata: float | None = None,
    crs: CRS | None = None,
    transform: Affine | None = None,
    tags: Mapping[str, Any] | None = None,
    colormap: Mapping[int, tuple[int, ...]] | None = None,
) -> None:
    """Write a tiled, compressed GeoTIFF, whole or not at all.

    Parameters
    ----------
    bands
        (C, H, W) or (H, W).
    valid
        (H, W) bool, stored as the file's own mask; use `nodata` instead for rasters that
        people open elsewhere.
    """
    bands = bands[None] if bands.ndim == 2 else bands
    count, height, width = bands.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": count, "height": height, "width": width,
        "dtype": bands.dtype, "crs": crs, "transform": transform, "nodata": nodata,
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate",
        "predictor": 3 if np.issubdtype(bands.dtype, np.floating) else 2,
        "bigtiff": "IF_SAFER", "interleave": "pixel",
    }  # fmt: skip
    with (
        whole(path) as temporary,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(temporary, "w", **profile) as target,
    ):
        target.write(bands)
        if valid is not None:
            target.write_mask(valid)
        if colormap is not None:
            target.write_colormap(1, dict(colormap))
        target.update_tags(**{key: str(value) for key, value in (tags or {}).items()})


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
        """Side of a pixel in micrometres, None where nobody said."""
        size = self.tags.get("PIXEL_SIZE_UM")
        return float(size) if size else None

    def band(self, window: Window | None = None) -> NDArray[Any]:
        """The first band (H, W) within a window."""
        band: NDArray[Any] = self._source.read(1, window=_rasterio(window))
        return band

    def valid(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Where there is specimen, (H, W) bool."""
        mask: NDArray[np.bool_] = self._source.dataset_mask(window=_rasterio(window)) > 0
        return mask

    def rgb8(self, window: Window | None = None) -> NDArray[np.uint8]:
        """What the network sees: (H, W, 3) uint8, stretched between the raster's gray levels.

        Gray becomes three equal bands; of more than three bands the first three count.
        Pixels that are no specimen are black.
        """
        count = min(self._source.count, 3)
        bands = self._source.read(list(range(1, count + 1)), window=_rasterio(window))
        low, high = float(self.tags["LOW"]), float(self.tags["HIGH"])
        scaled = (np.nan_to_num(bands.astype(np.float32)) - low) * (255 / (high - low))
        scaled[:, ~self.valid(window)] = 0
        pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        rgb = np.moveaxis(pixels, 0, -1)  # (H, W, C)
        return np.ascontiguousarray(rgb if count == 3 else np.repeat(rgb[..., :1], 3, axis=-1))


@contextmanager
def open_raster(path: Path | str) -> Iterator[Raster]:
    """Open one of our rasters for reading by window."""
    with rasterio.open(path) as source:
        yield Raster(source)


def _rasterio(window: Window | None) -> RasterioWindow | None:
    if window is None:
        return None
    return RasterioWindow(window.col, window.row, window.width, window.height)
