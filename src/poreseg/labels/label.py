"""What every label reader takes and gives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely import get_parts
from shapely.geometry.base import BaseGeometry

from poreseg.classes import MATRIX, PORE, UNKNOWN
from poreseg.errors import PoresegError, nearest, warn
from poreseg.images.raster import Raster
from poreseg.images.source import Source

MEANINGS = {"pore": PORE, "matrix": MATRIX, "unknown": UNKNOWN}
FAR = 1e7  # px; coordinates beyond are broken, and overflow in rasterising
NAMELESS = "no class"


@dataclass(frozen=True)
class Grid:
    """The raster that a label lies on: height, width in px, and where it lies on a map.

    `image` is the name of its image, by which it is found in labels of several images;
    `plane` is the image's, which counts in labels of several planes as well.
    """

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    image: str = ""
    plane: int | None = None

    @classmethod
    def of(cls, place: Raster | Source, image: str = "", plane: int | None = None) -> "Grid":
        """The grid of an open raster or image."""
        return cls(place.height, place.width, place.crs, place.transform, image, plane)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class Classes:
    """What classes mean: names of outlines, values of masks ("2") or colours ("#ff0000").

    `other` is what a class means that is not listed: "error", "matrix", "pore" or "unknown".
    `value_255` says what 255 is in a mask of 0 and 255 alone: "pore" or "unknown". With
    `sparse`, what is not marked is unknown and not matrix.
    """

    pore: Sequence[str | int] = ("pore",)
    matrix: Sequence[str | int] = ("matrix",)
    unknown: Sequence[str | int] = ("unknown",)
    other: Literal["error", "matrix", "pore", "unknown"] = "error"
    value_255: Literal["pore", "unknown"] = "pore"
    sparse: bool = False

    def meaning(self, name: str) -> int | None:
        """0 matrix, 1 pore or 255 unknown for a listed class, in any case; else None.

        Classes that are called so, as poreseg itself writes them, mean that where the study says
        nothing else of them. QuPath marks classes that it leaves out with a star: `Ignore*` is `ignore`.
        """
        name = name.strip().rstrip("*").casefold()
        for meaning, value in MEANINGS.items():
            if name in {str(known).strip().casefold() for known in getattr(self, meaning)}:
                return value
        return MEANINGS.get(name) if self.other == "error" else None

    def values(self, found: Mapping[str, int], path: Path) -> dict[str, int]:
        """What each found class means; `found` counts their regions or pixels.

        Raises
        ------
        PoresegError
            A class is not listed, and `other` does not say what such classes are.
        """
        known = {name: self.meaning(name) for name in found}
        strange = [name for name, value in known.items() if value is None]
        if strange and self.other == "error":
            listed = [*self.pore, *self.matrix, *self.unknown]
            raise PoresegError(
                f"{path}: class '{strange[0]}'{nearest(strange[0], map(str, listed))} is neither pore, "
                f"matrix nor unknown; found {counted(found)}. Name each in rasterise.pore, .matrix or "
                ".unknown in params.yaml, or say in rasterise.other what all others are"
            )
        return {
            name: MEANINGS.get(self.other, MATRIX) if value is None else value
            for name, value in known.items()
        }

    @property
    def ground(self) -> int:
        """What is not marked at all."""
        return UNKNOWN if self.sparse else MATRIX


@dataclass(frozen=True)
class Label:
    """A label raster (H, W) uint8: 0 matrix, 1 pore, 255 unknown; and how it was understood."""

    values: NDArray[np.uint8]
    understood: str


@dataclass(frozen=True)
class Bitmap:
    """Pixels of a region: (h, w) bool, with its first row and column in the image."""

    row: int
    col: int
    pixels: NDArray[np.bool_]

    def cropped(self) -> "Bitmap":
        """Without the rows and columns around the region: masks of a whole image add up."""
        rows, cols = (
            np.flatnonzero(self.pixels.any(axis=1)),
            np.flatnonzero(self.pixels.any(axis=0)),
        )
        if not len(rows):
            return Bitmap(self.row, self.col, np.zeros((0, 0), bool))
        part = self.pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        return Bitmap(self.row + int(rows[0]), self.col + int(cols[0]), part.copy())


@dataclass(frozen=True)
class Region:
    """A marked region: an outline in pixel coordinates, or a bitmap; and its class, if any.

    Coordinates are x right, y down, with 0, 0 at the top left corner of the first pixel.
    """

    area: BaseGeometry | Bitmap
    name: str | None = None


def draw(regions: Sequence[Region], grid: Grid, classes: Classes, path: Path) -> Label:
    """Rasterise regions in the order of the file, a later one over an earlier one.

    A pixel belongs to an outline that holds its centre (not `all_touched`): areas are then
    unbiased, and an outline along pixel borders gives back exactly its pixels. Where an
    outline crosses itself, its inside is by the even-odd rule. Regions without a class are
    pores; where others have one, that is told, and so are regions that lie outside the image.

    Raises
    ------
    PoresegError
        A class is not known, or all regions lie outside the image.
    """
    found = Counter(region.name or NAMELESS for region in regions)
    named = {name: count for name, count in found.items() if name != NAMELESS}
    value_of = {NAMELESS: PORE} | classes.values(named, path)
    values = np.full(grid.shape, classes.ground, np.uint8)
    if not regions:
        return Label(values, "no regions")
    _check_place(regions, grid, path)
    if named and NAMELESS in found:
        warn(f"{path}: {found[NAMELESS]} regions have no class, where others do ({counted(named)}): they are taken for pores")  # fmt: skip
    outlines: list[tuple[BaseGeometry, int]] = []
    for region in regions:
        value = value_of[region.name or NAMELESS]
        if isinstance(region.area, Bitmap):
            _burn(outlines, values)
            _paint(region.area, value, values)
        else:  # parts that overlap would cancel each other in one geometry
            outlines += [(part, value) for part in get_parts(region.area) if not part.is_empty]
    _burn(outlines, values)
    return Label(values, f"{len(regions)} regions: {counted(found)}")


def _burn(outlines: list[tuple[BaseGeometry, int]], values: NDArray[np.uint8]) -> None:
    """Rasterise the outlines that have come together, and forget them."""
    if outlines:
        rasterize(outlines, out=values)
        outlines.clear()


def _paint(bitmap: Bitmap, value: int, values: NDArray[np.uint8]) -> None:
    """Paint a bitmap, cut to the image."""
    top, left = max(bitmap.row, 0), max(bitmap.col, 0)
    pixels = bitmap.pixels[top - bitmap.row :, left - bitmap.col :]
    target = values[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    target[pixels[: target.shape[0], : target.shape[1]]] = value


def _check_place(regions: Sequence[Region], grid: Grid, path: Path) -> None:
    boxes = np.array([_box(region.area) for region in regions], dtype=float)
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    if not len(boxes):
        return
    beyond = boxes[:, :2] >= (grid.width, grid.height)
    outside = ((boxes[:, 2:] <= 0) | beyond).any(axis=1)
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    if not np.abs([left, top, right, bottom]).max() < FAR:
        raise PoresegError(f"{path}: coordinates of {max(right, bottom, -left, -top):.3g} px are no coordinates; "
                           "export the label again")  # fmt: skip
    span = f"x {left:g} to {right:g} and y {top:g} to {bottom:g} px, the image is {grid.width}x{grid.height}"
    if outside.all():
        raise PoresegError(
            f"{path}: all regions lie outside the image: {span}. Export them in the image's "
            "own coordinates (map coordinates if it lies on a map, else pixels)"
        )
    if outside.any() and not grid.crs:  # of a map, an image may be a part
        warn(f"{path}: {outside.sum()} of {len(boxes)} regions lie outside the image ({span}); were they drawn on it at another size?")  # fmt: skip


def _box(area: BaseGeometry | Bitmap) -> tuple[float, float, float, float]:
    if isinstance(area, Bitmap):
        height, width = area.pixels.shape
        return area.col, area.row, area.col + width, area.row + height
    bounds: tuple[float, float, float, float] = area.bounds
    return bounds


def counted(found: Mapping[str, int]) -> str:
    """Classes with how often each was found, the most frequent first; of many the first ten."""
    ordered = sorted(found.items(), key=lambda item: -item[1])
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return ", ".join(f"{name} ({count})" for name, count in ordered[:10]) + more


def check_size(size: tuple[Any, Any], grid: Grid, path: Path) -> None:
    """Compare the height and width that a label was drawn on with the image's."""
    if None not in size and tuple(map(int, size)) != grid.shape:
        raise PoresegError(
            f"label grid differs from raster: raster {grid.width}x{grid.height}, label drawn on "
            f"{size[1]}x{size[0]} ({path}). Label the image at full size"
        )
