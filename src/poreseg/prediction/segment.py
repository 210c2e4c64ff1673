"""Segment: probabilities become a mask, a picture with the pores in blue, and outlines."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import remove_small_objects

from poreseg.classes import MATRIX, PORE, UNKNOWN
from poreseg.files import whole, write_text
from poreseg.images.raster import open_raster, write_raster
from poreseg.labels.label import Grid
from poreseg.labels.write import geojson

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
        grid = Grid.of(image)
        write_text(polygons, json.dumps(geojson(pore.astype(np.uint8), grid)))


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
