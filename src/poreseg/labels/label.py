"""What every label reader takes and gives."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from poreseg.classes import MATRIX, PORE, UNKNOWN
from poreseg.errors import PoresegError, warn


@dataclass(frozen=True)
class Grid:
    """The raster that a label lies on: height, width in px, and where it lies on a map."""

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True)
class Classes:
    """Class names that mean pore and unknown; every other name is matrix.

    `value_255` says what 255 is in a mask of 0 and 255 alone: "pore" or "unknown".
    """

    pore: Sequence[str]
    unknown: Sequence[str]
    value_255: str = "pore"

    def value(self, name: str) -> int:
        """0 matrix, 1 pore or 255 unknown for a class name, in any case."""
        name = name.strip().casefold()
        if name in {known.casefold() for known in self.pore}:
            return PORE
        return UNKNOWN if name in {known.casefold() for known in self.unknown} else MATRIX


@dataclass(frozen=True)
class Label:
    """A label raster (H, W) uint8: 0 matrix, 1 pore, 255 unknown; and how it was understood."""

    values: NDArray[np.uint8]
    understood: str


@dataclass(frozen=True)
class Shape:
    """An outline in pixel coordinates (x right, y down, 0,0 the raster's top left corner)."""

    geometry: BaseGeometry
    name: str | None  # class; None where the file names none


def draw(shapes: Sequence[Shape], grid: Grid, classes: Classes, path: Path) -> Label:
    """Rasterise outlines in the order of the file, a later one over an earlier one.

    A pixel belongs to an outline that holds its centre: areas are then unbiased, and an
    outline along pixel borders gives back exactly its pixels. Outlines without a class
    are pores.

    Raises
    ------
    PoresegError
        There are outlines, and no class among them is named as pore.
    """
    found = Counter(shape.name or "no class" for shape in shapes)
    value_of = {name: PORE if name == "no class" else classes.value(name) for name in found}
    if found and PORE not in value_of.values():
        raise PoresegError(
            f"{path}: no class means pore; found {_listed(found)}. Name it in rasterise.pore "
            "in params.yaml"
        )
    for name in (name for name, value in value_of.items() if value == MATRIX):
        if name.casefold() != "matrix":
            warn(f"{path}: class '{name}' is taken as matrix; name it in params.yaml if it is not")
    pairs = [
        (_valid(shape.geometry), value_of[shape.name or "no class"])
        for shape in shapes
        if not shape.geometry.is_empty
    ]
    values = np.zeros(grid.shape, np.uint8)
    if pairs:
        _check_overlap(shapely.GeometryCollection([area for area, _ in pairs]), grid, path)
        rasterize(pairs, out=values)
    return Label(values, f"{len(shapes)} outlines: {_listed(found)}" if found else "no outlines")


def _check_overlap(areas: BaseGeometry, grid: Grid, path: Path) -> None:
    left, top, right, bottom = areas.bounds
    if right <= 0 or bottom <= 0 or left >= grid.width or top >= grid.height:
        raise PoresegError(
            f"{path}: all outlines lie outside the image: x {left:g} to {right:g} and y {top:g} to "
            f"{bottom:g} px, the image is {grid.width}x{grid.height}. Export them in the image's "
            "own coordinates (map coordinates if it lies on a map, else pixels)"
        )


def polygon(points: Iterable[Any], path: Path) -> BaseGeometry:
    """A polygon from a list of x, y; raise a `PoresegError` where they are none."""
    try:
        array = np.asarray(list(points), dtype=float)
        if array.ndim != 2 or array.shape[0] < 3 or array.shape[1] < 2:
            raise ValueError(f"{len(array)} points")
        if not np.isfinite(array).all():
            raise ValueError("coordinates that are no numbers")
        return shapely.Polygon(array[:, :2])
    except (TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise PoresegError(
            f"{path}: an outline is no polygon ({error}); mend it and export again"
        ) from None


def _valid(geometry: BaseGeometry) -> BaseGeometry:
    """Outlines drawn by hand may cross themselves; both lobes belong to them."""
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in found.most_common())
