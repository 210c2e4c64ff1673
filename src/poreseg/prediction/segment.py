"""Segment: turn probabilities into a mask, an overlay in blue, and outlines."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import remove_small_objects

from poreseg.classes import MATRIX, OURS, PORE, UNKNOWN
from poreseg.images import scale
from poreseg.images.raster import Raster, new_png, new_raster, open_raster, to_rasterio
from poreseg.images.windows import Window
from poreseg.labels.label import Grid
from poreseg.labels.write import write_geojson
from poreseg.prediction.pores import whole_pores

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
    pixel_size_um: float | None = None,
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
        GeoJSON to write: one feature per edge-connected set of pore pixels (those that touch
        only at corners are separate), along pixel borders, in map coordinates if the image is
        georeferenced, else in pixels (y down).
    pixel_size_um
        From samples.csv, for the mask; None takes that of the image's file.
    threshold
        Pore where the probability reaches it; None: predict's THRESHOLD tag.
    min_area_px
        Smaller specks are matrix.
    """
    with open_raster(probabilities) as source, open_raster(raster) as image:
        level = threshold if threshold is not None else float(source.tags["THRESHOLD"])
        tags = {**source.tags, **OURS, "THRESHOLD": level}
        tags.pop("AREA_OR_POINT", None)
        written = (
            {image.tags["PIXEL_SIZE_FROM"]: image.pixel_size_um} if image.pixel_size_um else {}
        )
        size, size_from = scale.choose(written, pixel_size_um, Path(raster).stem)
        tags |= {"PIXEL_SIZE_UM": size, "PIXEL_SIZE_FROM": size_from, **scale.resolution(size)} if size else {}  # fmt: skip
        shape, place = (image.height, image.width), (image.crs, image.transform)
        with (
            new_raster(mask, (1, *shape), np.uint8, nodata=UNKNOWN, crs=place[0],
                       transform=place[1], tags=tags, colormap=COLOURS) as masked,
            new_png(overlay, shape) as painted,
        ):  # fmt: skip
            for strip in image.strips():
                values = _mask(source, strip, level, min_area_px)
                masked.write(values, 1, window=to_rasterio(strip))
                picture = paint(image.rgb8(strip), values == PORE)
                painted.write(np.moveaxis(picture, -1, 0), window=to_rasterio(strip))
        with open_raster(mask) as found:
            pores = ((top, (part == PORE).astype(np.uint8)) for top, part in whole_pores(found, 1))
            write_geojson(polygons, pores, Grid.of(image))


def find_pores(
    probabilities: NDArray[np.float32], threshold: float, min_area_px: int
) -> NDArray[np.bool_]:
    """Mask (H, W) of pores: at or above the threshold, without specks."""
    return without_specks(np.nan_to_num(probabilities, nan=0.0) >= threshold, min_area_px)


def without_specks(pore: NDArray[np.bool_], min_area_px: int) -> NDArray[np.bool_]:
    """Pores (H, W) without those of fewer pixels than `min_area_px`; pixels that touch at corners are one."""
    if min_area_px > 1 and pore.any():
        pore = remove_small_objects(pore, max_size=min_area_px - 1, connectivity=2)
    return pore


def _mask(
    probabilities: Raster, strip: Window, threshold: float, min_area_px: int
) -> NDArray[np.uint8]:
    """A strip of the mask, with `min_area_px` rows of context for the size of specks."""
    first = max(strip.row - min_area_px, 0)
    last = min(strip.row + strip.height + min_area_px, probabilities.height)
    found = probabilities.band(Window(first, 0, last - first, strip.width))
    pore = find_pores(found, threshold, min_area_px)
    values = np.where(np.isnan(found), np.uint8(UNKNOWN), pore.astype(np.uint8))
    return values[strip.row - first :][: strip.height]


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
