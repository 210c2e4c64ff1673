"""Types and drawing shared by label readers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from poreseg.classes import MATRIX, PORE, UNKNOWN
from poreseg.errors import PoresegError, nearest, warn
from poreseg.images.raster import Raster
from poreseg.images.source import Source

MEANINGS = {"pore": PORE, "matrix": MATRIX, "unknown": UNKNOWN}
FAR = 1e7  # px; coordinates beyond are broken, and overflow in rasterising
NAMELESS = "no class"
MANY = 10  # regions: fewer may lie in one corner by chance
CORNER = 0.6  # of height and width, at most


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a label: height, width in px, and georeference.

    `image` is the file name of its image, the key in labels of several images; `plane` is the
    image's plane, which also selects that of labels of several planes; None if none was chosen,
    so that it is the first of `planes`, the number in the image's file.
    """

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    image: str = ""
    plane: int | None = None
    planes: int = 1

    @classmethod
    def of(cls, place: Raster | Source, image: str = "", plane: int | None = None) -> "Grid":
        """The grid of an open raster or image."""
        return cls(
            place.height, place.width, place.crs, place.transform, image, plane, place.planes
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class Classes:
    """What classes mean: names of outlines, values of masks ("2") or colours ("#ff0000").

    `other` is the meaning of unlisted classes: "error", "matrix", "pore" or "unknown".
    `value_255` is the meaning of 255 in a mask of only 0 and 255: "pore" or "unknown". With
    `sparse`, unmarked pixels are unknown, not matrix.
    """

    pore: Sequence[str | int] = ("pore",)
    matrix: Sequence[str | int] = ("matrix",)
    unknown: Sequence[str | int] = ("unknown",)
    other: Literal["error", "matrix", "pore", "unknown"] = "error"
    value_255: Literal["pore", "unknown"] = "pore"
    sparse: bool = False

    def meaning(self, name: str) -> int | None:
        """0 matrix, 1 pore or 255 unknown for a listed class, ignoring case; else None.

        If `other` is "error", unlisted "matrix", "pore" and "unknown", as poreseg writes them,
        mean just that. QuPath marks classes that it leaves out with a star: `Ignore*` is `ignore`.
        """
        name = name.strip().rstrip("*").casefold()
        for meaning, value in MEANINGS.items():
            if name in {str(known).strip().casefold() for known in getattr(self, meaning)}:
                return value
        return MEANINGS.get(name) if self.other == "error" else None

    def values(self, found: Mapping[str, int], path: Path) -> dict[str, int]:
        """The meaning of each class; `found` counts its regions or pixels.

        Raises
        ------
        PoresegError
            A class has no `meaning`, and `other` is "error".
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
        """Value of unmarked pixels."""
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
        """Cropped to the region, as many masks of image size would fill memory."""
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
    """Rasterise regions in the order given, later ones over earlier ones.

    A pixel belongs to an outline that contains its centre (not `all_touched`): areas are then
    unbiased, and an outline along pixel borders gives exactly its pixels. Self-intersecting
    outlines are filled by the even-odd rule. Regions without a class are pores. Warns if only
    some have a class, or if regions lie outside the image, all in a corner, or leave no pixel.

    Raises
    ------
    PoresegError
        A class is not known, all regions lie outside, or coordinates exceed `FAR`.
    """
    found = Counter(region.name or NAMELESS for region in regions)
    named = {name: count for name, count in found.items() if name != NAMELESS}
    value_of = {NAMELESS: PORE} | classes.values(named, path)
    if not regions:
        return Label(np.full(grid.shape, classes.ground, np.uint8), "no regions")
    _check_place(regions, grid, path, classes)
    if named and NAMELESS in found:
        warn(f"{path}: {found[NAMELESS]} regions have no class, where others do ({counted(named)}): they are taken for pores")  # fmt: skip
    numbers = _numbered(regions, grid)
    means = [classes.ground, *(value_of[region.name or NAMELESS] for region in regions)]
    values = np.array(means, np.uint8)[numbers]
    _tell_unseen(regions, means[1:], numbers, values, path)
    return Label(values, f"{len(regions)} regions: {counted(found)}")


def _numbered(regions: Sequence[Region], grid: Grid) -> NDArray[np.unsignedinteger]:
    """Number of each pixel's region (H, W), from 1, the last one of several; 0 for none."""
    numbers = np.zeros(grid.shape, np.min_scalar_type(len(regions)))
    outlines: list[tuple[BaseGeometry, int]] = []
    for number, region in enumerate(regions, start=1):
        if isinstance(region.area, Bitmap):
            _burn(outlines, numbers)
            _paint(region.area, number, numbers)
        else:  # parts that overlap would cancel each other in one geometry
            outlines += [
                (part, number) for part in shapely.get_parts(region.area) if not part.is_empty
            ]
    _burn(outlines, numbers)
    return numbers


def _burn(outlines: list[tuple[BaseGeometry, int]], numbers: NDArray[np.unsignedinteger]) -> None:
    """Rasterise the outlines collected so far, and clear them."""
    if outlines:
        rasterize(outlines, out=numbers)
        outlines.clear()


def _paint(bitmap: Bitmap, number: int, numbers: NDArray[np.unsignedinteger]) -> None:
    """Paint a bitmap, cut to the image."""
    top, left = max(bitmap.row, 0), max(bitmap.col, 0)
    pixels = bitmap.pixels[top - bitmap.row :, left - bitmap.col :]
    target = numbers[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    target[pixels[: target.shape[0], : target.shape[1]]] = number


def _tell_unseen(
    regions: Sequence[Region],
    means: Sequence[int],
    numbers: NDArray[np.unsignedinteger],
    values: NDArray[np.uint8],
    path: Path,
) -> None:
    """Warn of regions within the image that have no pixel, where the label has another value."""
    seen = np.zeros(len(regions) + 1, bool)
    seen[numbers] = True
    unseen = Counter(
        region.name or NAMELESS
        for region, value, here in zip(regions, means, seen[1:], strict=True)
        if not here and _at(region.area, values) not in (None, value)
    )
    if unseen:
        warn(f"{path}: {unseen.total()} of {len(regions)} regions leave no pixel ({counted(unseen)}): later ones of "
             "another class lie over them, or they are narrower than a pixel")  # fmt: skip


def _at(area: BaseGeometry | Bitmap, values: NDArray[np.uint8]) -> int | None:
    """The value at a point within a region; None where it has none within the image."""
    if isinstance(area, Bitmap):
        places = np.argwhere(area.pixels) + np.array([area.row, area.col])
    else:
        within = shapely.make_valid(area).intersection(shapely.box(0, 0, *values.shape[::-1]))
        points = shapely.get_coordinates(within.representative_point())
        places = np.floor(points[:, ::-1]).astype(int)
    inside = ((places >= 0) & (places < values.shape)).all(axis=1)
    return int(values[tuple(places[inside][0])]) if inside.any() else None


def _check_place(regions: Sequence[Region], grid: Grid, path: Path, classes: Classes) -> None:
    boxes = np.array([_box(region.area) for region in regions], dtype=float)
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    if not len(boxes):
        return
    beyond = boxes[:, :2] >= (grid.width, grid.height)
    outside = ((boxes[:, 2:] <= 0) | beyond).any(axis=1)
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    if not np.abs([left, top, right, bottom]).max() < FAR:
        raise PoresegError(f"{path}: coordinates reach {max(right, bottom, -left, -top):.3g} px, beyond any image; "
                           "export the label again")  # fmt: skip
    span = f"x {left:g} to {right:g} and y {top:g} to {bottom:g} px, the image is {grid.width}x{grid.height}"
    if outside.all():
        raise PoresegError(
            f"{path}: all regions lie outside the image: {span}. Export them in the image's "
            "own coordinates (map coordinates if it lies on a map, else pixels)"
        )
    if grid.crs:  # an image may be part of its map
        return
    if outside.any():
        warn(f"{path}: {outside.sum()} of {len(boxes)} regions lie outside the image ({span}); were they drawn on it at another size?")  # fmt: skip
    elif not classes.sparse and len(boxes) >= MANY and right < CORNER * grid.width and bottom < CORNER * grid.height:  # fmt: skip
        warn(f"{path}: all {len(boxes)} regions lie in a corner of the image ({span}); were they drawn on it at another size, or is the rest not labelled?")  # fmt: skip


def _box(area: BaseGeometry | Bitmap) -> tuple[float, float, float, float]:
    if isinstance(area, Bitmap):
        height, width = area.pixels.shape
        return area.col, area.row, area.col + width, area.row + height
    bounds: tuple[float, float, float, float] = area.bounds
    return bounds


def counted(found: Mapping[str, int]) -> str:
    """Classes with their counts, the most frequent first, at most ten."""
    ordered = sorted(found.items(), key=lambda item: -item[1])
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return ", ".join(f"{name} ({count})" for name, count in ordered[:10]) + more


def check_size(size: tuple[Any, Any], grid: Grid, path: Path) -> None:
    """`PoresegError` if a label's known height and width are not the image's."""
    if None not in size and tuple(map(int, size)) != grid.shape:
        raise PoresegError(
            f"{path}: drawn on {size[1]}x{size[0]} px, the image is {grid.width}x{grid.height}; "
            "label the image at full size"
        )
