"""Segment: probabilities become a mask, a picture with the pores in blue, and outlines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import shapes
from skimage.morphology import remove_small_objects

from poreseg.classes import MATRIX, PORE, UNKNOWN
from poreseg.files import whole, write_text
from poreseg.images.raster import Raster, open_raster, write_raster

BLUE = (30, 100, 255)  # the epoxy blue of thin sections, where pores are dyed
OPACITY = 0.6
COLOURS = {MATRIX: (0, 0, 0, 255), PORE: (*BLUE, 255), UNKNOWN: (128, 128, 128, 255)}


def segment(
    probabilities: Path | str,
    raster: Path | str,
    mask: Path | str,
    overlay: Path | str,
    polygons: Path | str,
    *,
    threshold: float | None,
    min_area_px: int,
) -> None:
    """Write the mask, the overlay and the polygons of an image.

    Parameters
    ----------
    probabilities
        What predict wrote.
    raster
        The image's canonical raster.
    mask
        GeoTIFF to write, uint8 with a colour table: 0 matrix, 1 pore, 255 no specimen.
    overlay
        PNG to write: the image with its pores in blue.
    polygons
        GeoJSON to write: one feature per pore along its pixels' borders, in map
        coordinates where the image lies on a map, else in pixels (y down).
    threshold
        Pore where the probability reaches it; None takes the model's own.
    min_area_px
        Smaller specks are matrix.
    """
    with open_raster(probabilities) as source, open_raster(raster) as image:
        found = source.band()
        level = threshold if threshold is not None else float(source.tags["THRESHOLD"])
        pore = find_pores(found, level, min_area_px)
        values = pore.astype(np.uint8)
        values[np.isnan(found)] = UNKNOWN
        tags = {**source.tags, "THRESHOLD": level}
        tags.pop("AREA_OR_POINT", None)
        write_raster(mask, values, nodata=UNKNOWN, crs=image.crs, transform=image.transform,
                     tags=tags, colormap=COLOURS)  # fmt: skip
        with whole(overlay) as temporary:
            Image.fromarray(paint(image.rgb8(), pore)).save(temporary)
        write_text(polygons, json.dumps(outline(pore, image)))


def find_pores(
    probabilities: NDArray[np.float32], threshold: float, min_area_px: int
) -> NDArray[np.bool_]:
    """Pixels (H, W) that are pore: probable enough, and in a pore of some size."""
    pore: NDArray[np.bool_] = np.nan_to_num(probabilities, nan=0.0) >= threshold
    if min_area_px > 1 and pore.any():
        pore = remove_small_objects(pore, max_size=min_area_px - 1, connectivity=2)
    return pore


def paint(
    image: NDArray[np.uint8],
    area: NDArray[np.bool_],
    colour: tuple[int, int, int] = BLUE,
    opacity: float = OPACITY,
) -> NDArray[np.uint8]:
    """An image (H, W, 3) with an area (H, W) painted in a colour, the image shining through."""
    painted = image.copy()
    mixed = (1 - opacity) * image[area] + opacity * np.array(colour)
    painted[area] = np.rint(mixed).astype(np.uint8)
    return painted


def outline(pore: NDArray[np.bool_], raster: Raster) -> dict[str, Any]:
    """GeoJSON of the pores along their pixels' borders.

    Pixels that touch only at a corner are two outlines: joined, they would cross themselves.
    """
    collection: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": list(_features(pore, raster)),
    }
    if raster.crs:  # the older member that QGIS and GDAL still read; RFC 7946 knows WGS 84 only
        name = raster.crs.to_string()
        collection["crs"] = {"type": "name", "properties": {"name": name}}
    return collection


def _features(pore: NDArray[np.bool_], raster: Raster) -> Iterator[dict[str, Any]]:
    place = raster.transform if raster.crs else Affine.identity()  # as the label reader has it
    found = shapes(pore.astype(np.uint8), mask=pore, connectivity=4, transform=place)
    for geometry, _ in found:
        yield {"type": "Feature", "properties": {"class": "pore"}, "geometry": geometry}
