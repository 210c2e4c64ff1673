"""TIFF of every layout, PNG, BMP and JPEG2000: GDAL reads the pixels, by window.

tifffile finds the page of each channel and plane of a TIFF (OME, ImageJ and plain stacks),
and the scale and data bar in the maker's tags.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags

from poreseg.errors import PoresegError, warn
from poreseg.images import scale
from poreseg.images.raster import CACHE_BYTES, to_rasterio
from poreseg.images.source import Choice, Picture, Source, pick_bands
from poreseg.images.windows import Window

TIFFS = (".tif", ".tiff", ".btf", ".tf8")
DRIVERS = {".png": "PNG", ".bmp": "BMP", ".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG"}
UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}  # of TIFF's resolution tags


@contextmanager
def open_picture(path: Path, choice: Choice) -> Iterator[Source]:
    """A PNG, BMP or JPEG2000 image."""
    if path.suffix.lower() == ".png":
        _verify(path)
    with _env(), rasterio.open(path, driver=DRIVERS[path.suffix.lower()]) as dataset:
        yield _Gdal.of(path, [dataset], choice)


@contextmanager
def open_tiff(path: Path, choice: Choice) -> Iterator[Source]:
    """A TIFF, BigTIFF, GeoTIFF or OME-TIFF; the pages of the chosen plane and channels."""
    layout = _layout(path, choice)
    names = [f"GTIFF_DIR:{page + 1}:{path}" for page in layout.pages] or [str(path)]
    with _env(), ExitStack() as stack:
        datasets = [stack.enter_context(rasterio.open(name, driver="GTiff")) for name in names]
        source = _Gdal.of(
            path, datasets, replace(choice, channels=None) if layout.stacked else choice
        )
        source.scales = layout.scales | source.scales
        source.bar_rows, source.convert = layout.bar_rows, layout.convert
        source.planes = layout.planes
        yield source


def _verify(path: Path) -> None:
    """Check a PNG's chunks: GDAL reads a truncated one as black, without an error."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # nothing is decoded here
    try:
        with Image.open(path) as file:
            file.verify()
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _env() -> rasterio.Env:
    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True)


@dataclass(kw_only=True)
class _Gdal(Source):
    datasets: Sequence[rasterio.DatasetReader]
    indexes: tuple[int, ...]  # bands of each dataset
    convert: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    all_valid: bool = False  # in labels, nodata 0 is background

    @classmethod
    def of(cls, path: Path, datasets: Sequence[rasterio.DatasetReader], choice: Choice) -> "_Gdal":
        first = datasets[0]
        colours = first.count - _has_alpha(first)
        indexes = pick_bands(path, choice, colours)
        return cls(
            path=path, height=first.height, width=first.width, count=len(indexes) * len(datasets), dtype=np.dtype(first.dtypes[0]),
            crs=first.crs, transform=first.transform,
            scales={} if choice.of_label else scale.from_crs(first.crs, first.transform, path.name),
            datasets=datasets, indexes=indexes,
            all_valid=choice.of_label and first.nodata == 0 and MaskFlags.nodata in first.mask_flag_enums[0],
        )  # fmt: skip

    def _read(self, window: Window) -> Picture:
        part = to_rasterio(window)
        bands = np.concatenate([d.read(list(self.indexes), window=part) for d in self.datasets])
        first, palette, alpha = self.datasets[0], None, None
        if self.convert is not None:
            bands = self.convert(bands)
        elif first.count == 1 and first.colorinterp[0] == ColorInterp.palette:
            palette = first.colormap(1)
        if _has_alpha(first):
            alpha = first.read(first.count, window=part)
        valid: NDArray[np.bool_] = (first.dataset_mask(window=part) > 0) | self.all_valid
        if alpha is not None:
            valid &= alpha > 0
        if np.issubdtype(bands.dtype, np.floating):
            valid &= np.isfinite(bands).all(axis=0)
        return Picture(bands, valid, palette, alpha)


def _has_alpha(dataset: rasterio.DatasetReader) -> bool:
    return bool(dataset.count > 1 and dataset.colorinterp[-1] == ColorInterp.alpha)


@dataclass
class _Layout:
    """A TIFF's layout; `pages` is empty if page 0 is its only full-size one."""

    pages: list[int]
    planes: int
    stacked: bool  # channels are pages, not bands
    scales: dict[str, float]
    bar_rows: int | None
    convert: Callable[[NDArray[Any]], NDArray[Any]] | None


def _layout(path: Path, choice: Choice) -> _Layout:
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        pages, planes, stacked = _pages(path, tiff, choice)
        page = tiff.pages[pages[0] if pages else 0].keyframe
        assert page is not None
        _check_orientation(page, path)
        fei = _quietly(lambda: tiff.fei_metadata)
        return _Layout(
            pages, planes, stacked, {} if choice.of_label else _scales(tiff, page, fei, path.name),
            scale.fei_bar_rows(fei, page.imagelength) if fei else None,
            _conversion(page, path, as_stored=choice.of_label and _means_what_is_stored(tiff, page)),
        )  # fmt: skip


def _pages(path: Path, tiff: tifffile.TiffFile, choice: Choice) -> tuple[list[int], int, bool]:
    """Pages of the chosen plane's channels, the number of planes, and whether channels are pages."""
    full = [
        index for index, page in enumerate(tiff.pages)
        if not ((key := page.keyframe) and (key.is_reduced or key.is_mask))
    ]  # fmt: skip
    series = tiff.series[0]
    lead = [
        (axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS"
    ]
    found: list[Any]
    if not {axis for axis, _ in lead} - {"I", "Q"}:  # plain pages, maybe of several sizes
        lead, found = [("page", len(full))], full
    elif len(series.pages) == prod(n for _, n in lead):
        found = [page.index if page is not None else None for page in series.pages]
    else:
        raise PoresegError(f"{path}: axes {series.axes} of {series.shape} in {len(series.pages)} pages; "
                           "save each plane as a page, or the plane that you want as an image")  # fmt: skip
    if len(found) == 1:
        return found if found != [0] else [], 1, False
    order = np.arange(len(found)).reshape([n for _, n in lead])
    axes = [axis for axis, _ in lead]
    stacked = "C" in axes
    if stacked:
        order = np.moveaxis(order, axes.index("C"), -1)
    order = order.reshape(-1, order.shape[-1] if stacked else 1)  # planes, channels
    sizes = " x ".join(f"{axis} {n}" for axis, n in lead if axis != "C")
    plane = choice.plane_of(path, len(order), f" ({sizes})" if sizes else "")
    channels = choice.channels_of(path, "channels", order.shape[1], (1,)) if stacked else (1,)
    chosen = [found[order[plane - 1, channel - 1]] for channel in channels]
    if not all(isinstance(index, int) for index in chosen):
        raise PoresegError(
            f"{path}: the chosen plane is not in this file; save it as an image of its own"
        )
    return [int(index) for index in chosen], len(order), stacked


def _scales(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage, fei: Any, name: str
) -> dict[str, float]:
    """Pixel sizes in um by source, the makers' tags first."""
    scales: dict[str, float] = {}
    if sem := _quietly(lambda: tiff.sem_metadata):
        scales |= scale.from_zeiss_sem(sem, page.imagewidth)
    if fei:
        scales |= scale.from_fei(fei, name)
    if ome := _quietly(lambda: tiff.ome_metadata):
        scales |= scale.from_ome(ome, name)
    x, y = _quietly(lambda: page.get_resolution()) or (0.0, 0.0)
    if "XResolution" not in page.tags:
        return scales
    imagej = _quietly(lambda: tiff.imagej_metadata)
    if imagej and (found := scale.from_imagej(imagej, x, y, name)):
        return scales | found
    if unit := UNITS.get(int(page.resolutionunit)):
        scales |= scale.from_resolution(x, y, unit, name)
    return scales


def _quietly(metadata: Callable[[], Any]) -> Any:
    """Metadata, or None where they are malformed: the pixels may still be sound."""
    try:
        return metadata()
    except Exception:  # vendors' tags are free text, their parsers fail in many ways
        return None


def _means_what_is_stored(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Whether a mask's stored values count, regardless of its photometric tag.

    ImageJ stores objects as 255 under an inverting colour table; tifffile, and so imageio,
    tags a boolean array as white-is-zero, and stores True as 1.
    """
    return tiff.is_imagej or (page.bitspersample == 1 and page.software.startswith("tifffile"))


def _conversion(
    page: tifffile.TiffPage, path: Path, *, as_stored: bool
) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Function to the values that a viewer shows, if GDAL gives stored ones; else None."""
    meaning = int(page.photometric)
    if meaning == tifffile.PHOTOMETRIC.MINISWHITE and page.dtype and page.dtype.kind in "bu":
        top = 2**page.bitspersample - 1
        return lambda bands: bands if as_stored else (top - bands).astype(bands.dtype)
    inks = meaning == tifffile.PHOTOMETRIC.SEPARATED and page.bitspersample != 8  # GDAL does 8 bit
    if inks or meaning in (tifffile.PHOTOMETRIC.CIELAB, tifffile.PHOTOMETRIC.ICCLAB):
        kind = "CMYK of more than 8 bits" if inks else "L*a*b*"
        raise PoresegError(f"{path}: colours are {kind}; save the image as RGB")
    return None


def _check_orientation(page: tifffile.TiffPage, path: Path) -> None:
    if (turn := page.tags.valueof("Orientation", 1)) not in (0, 1):
        warn(
            f"{path}: its orientation tag says {turn} (turned or mirrored); it is read as stored, "
            "as labelling tools do"
        )
