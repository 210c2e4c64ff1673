"""The picture in a label file: of its image's size, and in its image's place on the map."""

from pathlib import Path

import numpy as np
from rasterio.warp import transform

from poreseg.errors import PoresegError
from poreseg.images.registry import open_image
from poreseg.images.source import Choice, Picture, Source
from poreseg.labels.label import Grid

OFF = 0.5  # px between corners of label and image on the map, at most


def load_picture(path: Path, grid: Grid) -> Picture:
    """Read a whole label image, or the image's plane of several.

    Raises
    ------
    PoresegError
        It cannot be read, its size is not the image's, or both are georeferenced and do not
        coincide.
    """
    with open_image(path, Choice(plane=grid.plane, of_label=True)) as source:
        if (source.height, source.width) != grid.shape:
            raise PoresegError(
                f"{path}: the label is {source.width}x{source.height} px, its image "
                f"{grid.width}x{grid.height}; export the label at full size"
            )
        if _on_earth(source) and _on_earth(grid) and (off := _off(source, grid)) > OFF:
            raise PoresegError(
                f"{path}: by their places on the map its corners are up to {off:.3g} px off those of its image; "
                "rasterise with the image's extent, or remove the label's georeference if the pixels are right"
            )
        return source.read(source.frame)


def _on_earth(place: Source | Grid) -> bool:
    known = place.crs and (place.crs.is_projected or place.crs.is_geographic)
    return bool(known) and not place.transform.is_identity


def _off(source: Source, grid: Grid) -> float:
    """Largest distance of a corner from the grid's on the map, in px."""
    corners = np.array([(col, row) for col in (0, grid.width) for row in (0, grid.height)], float)
    x, y = source.transform @ corners.T
    if source.crs != grid.crs:
        x, y = transform(source.crs, grid.crs, x, y)
    return float(np.hypot(*((~grid.transform @ (np.asarray(x), np.asarray(y))) - corners.T)).max())
