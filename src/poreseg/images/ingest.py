"""Ingest: any raw image becomes a canonical raster."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.errors import PoresegError, warn
from poreseg.files import sha256
from poreseg.images.raster import Picture, load_picture, write_raster


def ingest(
    image: Path | str,
    raster: Path | str,
    *,
    pixel_size_um: float | None,
    low_percentile: float,
    high_percentile: float,
) -> None:
    """Write the canonical raster of an image.

    Parameters
    ----------
    image
        TIFF, GeoTIFF, PNG or JPEG with 1 or 3 bands, with or without alpha.
    raster
        GeoTIFF to write: the same dtype, bands and georeference, tiled and compressed.
    pixel_size_um
        Side of a pixel as samples.csv gives it; None takes it from a projected CRS.
    low_percentile, high_percentile
        Of the valid pixels over all bands; the levels that become black and white.

    Raises
    ------
    PoresegError
        The image cannot be read, has another number of bands, or shows nothing.
    """
    picture = load_image(image)
    low, high = gray_levels(picture, low_percentile, high_percentile)
    size = pixel_size_um or _size_from_crs(picture)
    tags = {"LOW": low, "HIGH": high, "SOURCE_SHA256": sha256(image),
            "LOW_PERCENTILE": low_percentile, "HIGH_PERCENTILE": high_percentile}  # fmt: skip
    write_raster(
        raster,
        picture.bands,
        valid=picture.valid,
        crs=picture.crs,
        transform=picture.transform,
        tags=tags | ({"PIXEL_SIZE_UM": size} if size else {}),
    )


def load_image(path: Path | str) -> Picture:
    """Read an image and make sure that there is something to see in it.

    A colour table is replaced by its colours; NaN pixels are no specimen, said aloud.
    """
    picture = load_picture(path)
    if picture.palette:
        picture = _with_colours(picture, picture.palette)
    bands = picture.bands
    if bands.shape[0] not in (1, 3):
        raise PoresegError(
            f"{path}: {bands.shape[0]} bands; wanted 1 (gray) or 3 (colour), with or without "
            "alpha. Export the bands that show the pores"
        )
    if np.iscomplexobj(bands):
        raise PoresegError(f"{path}: complex numbers; wanted integers or real numbers")
    if np.issubdtype(bands.dtype, np.floating) and (nan := int(np.isnan(bands).any(axis=0).sum())):
        warn(f"{path}: {nan} NaN pixels ({nan / bands[0].size:.1%}) are taken as no specimen")
    values = bands[:, picture.valid]
    if not values.size:
        raise PoresegError(f"{path}: no valid pixel, all are nodata, transparent or NaN")
    if values.min() == values.max():
        raise PoresegError(
            f"{path}: all pixels have one value ({values.min()}), there is nothing to see; "
            "export it again or take it out of the study"
        )
    return picture


def gray_levels(picture: Picture, low: float, high: float) -> tuple[float, float]:
    """Levels that become black and white: two percentiles, or the range where they meet."""
    values: NDArray[np.floating] = picture.bands[:, picture.valid]
    black, white = np.percentile(values, [low, high])
    if black == white:
        black, white = values.min(), values.max()
    return float(black), float(white)


def _with_colours(picture: Picture, palette: dict[int, tuple[int, ...]]) -> Picture:
    table = np.zeros((int(picture.bands.max()) + 1, 3), np.uint8)
    for value, colour in palette.items():
        if value < len(table):
            table[value] = colour[:3]
    colours = np.moveaxis(table[picture.bands[0]], -1, 0)
    if (colours == colours[:1]).all():
        colours = colours[:1]
    return Picture(np.ascontiguousarray(colours), picture.valid, picture.crs, picture.transform)


def _size_from_crs(picture: Picture) -> float | None:
    """Micrometres per pixel where a projected CRS says so and pixels are square."""
    if not picture.crs or not picture.crs.is_projected:
        return None
    metres = picture.crs.linear_units_factor[1]
    t = picture.transform
    width, height = np.hypot(t.a, t.d), np.hypot(t.b, t.e)  # the image may be turned on its map
    return float(width * metres * 1e6) if np.isclose(width, height) else None
