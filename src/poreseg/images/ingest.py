"""Ingest: any raw image becomes a canonical raster, strip by strip."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from poreseg.errors import PoresegError, warn
from poreseg.images import scale
from poreseg.images.companions import fingerprint
from poreseg.images.frame import Frame, Overview, find_frame, overview
from poreseg.images.raster import new_raster, to_rasterio
from poreseg.images.registry import open_image
from poreseg.images.source import Choice, Source

HIDDEN = "NaN, transparent or nodata"
LONE = 0.25  # of the contrast: a value is a fill value if all others span less than this


def ingest(
    image: Path | str,
    raster: Path | str,
    *,
    channel: Sequence[int] | None = None,
    plane: int | None = None,
    data_bar_px: int | None = None,
    low_percentile: float,
    high_percentile: float,
    data_bar: Literal["auto", "none"],
    border: Literal["auto", "none"],
) -> None:
    """Write the canonical raster of an image. Memory does not grow with the image's height.

    Parameters
    ----------
    image
        Of any format in `poreseg.images.registry`.
    raster
        GeoTIFF to write: the same dtype, bands and georeference, tiled and compressed, with the
        pixel size in the file's metadata; its mask excludes nodata and the `Frame` (data bar,
        borders, surroundings of a specimen).
    channel, plane, data_bar_px
        From samples.csv; None takes the default, for data_bar_px what `data_bar` finds.
    low_percentile, high_percentile
        Percentiles of specimen and air, over all bands, that become black and white.
    data_bar, border
        "auto" detects them, "none" assumes none; see `find_frame`.

    Raises
    ------
    PoresegError
        The image cannot be read, has no such channel or plane, or fails a check of `look`.
    """
    choice = Choice(tuple(channel) if channel else None, plane)
    with open_image(image, choice) as source:
        view, frame, (low, high) = look(
            source, data_bar=data_bar, border=border, data_bar_px=data_bar_px,
            low_percentile=low_percentile, high_percentile=high_percentile,
        )  # fmt: skip
        size, size_from = scale.choose(source.scales, None, str(source.path))
        tags = {"LOW": low, "HIGH": high, "SOURCE_SHA256": fingerprint([image]),
                "LOW_PERCENTILE": low_percentile, "HIGH_PERCENTILE": high_percentile}  # fmt: skip
        tags |= {"PIXEL_SIZE_UM": size, "PIXEL_SIZE_FROM": size_from} if size else {}
        tags |= {"FRAME": str(frame)} if frame else {}
        tags |= {"PLANES": source.planes} if source.planes > 1 else {}
        shape = (len(view.bands), source.height, source.width)
        hidden = 0
        with new_raster(raster, shape, view.bands.dtype, crs=source.crs,
                        transform=source.transform, tags=tags) as target:  # fmt: skip
            for window, picture in source.strips():
                bands, part = picture.bands, to_rasterio(window)
                target.write(bands, window=part)
                target.write_mask(frame.within(window, picture, source), window=part)
                hidden += int(np.count_nonzero(~picture.valid))
    if hidden:
        share = 100 * hidden / (source.height * source.width)
        warn(f"{image}: {hidden} pixels ({share:.3g} %) are {HIDDEN}, and taken as no specimen")


def look(
    source: Source, *, data_bar: str, border: str, data_bar_px: int | None,
    low_percentile: float, high_percentile: float,
) -> tuple[Overview, Frame, tuple[float, float]]:  # fmt: skip
    """Overview of an image, `valid` where it shows specimen; its frame; and its gray levels.

    The air around a specimen is excluded, but counts for the gray levels: it also fills the
    pores, so black means the same at any porosity.

    Raises
    ------
    PoresegError
        It has neither 1 nor 3 bands, complex values, no two valid values, or only a data bar.
    """
    view = overview(source)
    if len(view.bands) not in (1, 3):
        raise PoresegError(
            f"{source.path}: {len(view.bands)} bands; wanted 1 (gray) or 3 (colour). Name the ones "
            "that show the pores as channel in samples.csv, or with --channel"
        )
    if np.iscomplexobj(view.bands):
        raise PoresegError(f"{source.path}: complex numbers; wanted integers or real numbers")
    if not view.valid.any():
        raise PoresegError(f"{source.path}: no valid pixel, all are {HIDDEN}; export it again")
    _check_range(view, source)
    if data_bar_px is not None and data_bar_px > source.height - view.step:  # keep one overview row
        raise PoresegError(f"{source.path}: data_bar_px is {data_bar_px}, which leaves none of {source.height} rows; wanted fewer")  # fmt: skip
    frame = find_frame(view, source, data_bar=data_bar, border=border, bar_rows=data_bar_px)
    specimen = frame.out_of(view, source)
    _check_range(specimen, source, f" but for {frame}")
    with_air = replace(frame, air=None).out_of(view, source)
    return specimen, frame, _gray_levels(with_air.values, low_percentile, high_percentile, source)


def _check_range(view: Overview, source: Source, beside: str = "") -> None:
    values = view.values
    if not values.size or values.min() == values.max():
        only = f" ({values[0]})" if values.size else ""
        raise PoresegError(
            f"{source.path}: all pixels have one value{only}{beside}, there is nothing to see; "
            "export it again or take it out of the study"
        )


def _gray_levels(
    values: NDArray[Any], low: float, high: float, source: Source
) -> tuple[float, float]:
    """Black and white levels: two percentiles, or minimum and maximum if they are equal.

    A value far from all others (no data, or a scale bar drawn on the image) is ignored, with a
    warning, or all others would become one gray. Pores clipped to black are not ignored: their
    edges have values between. Nor are values of 8-bit images.
    """
    black, white = np.percentile(values, [low, high])
    for lone in (black, white) if values.dtype.itemsize > 1 else ():
        others = values[values != lone]
        if not 0 < len(others) < len(values):
            continue
        if 0 < float(others.max()) - float(others.min()) < LONE * (white - black):
            darkest, brightest = np.percentile(others, [low, high])
            share = 100 * (1 - len(others) / len(values))
            warn(f"{source.path}: {share:.3g} % of its values are {lone:g}, the others {darkest:g} to {brightest:g}: it has no "
                 "say in what is black and white, but counts as specimen; if it shows none, make it NaN or nodata")  # fmt: skip
            return float(darkest), float(brightest)
    if black == white:
        black, white = values.min(), values.max()
    return float(black), float(white)
