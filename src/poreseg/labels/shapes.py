"""Outlines from the coordinates of label files; errors are one line each."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError, first_of, warn
from poreseg.labels.label import Bitmap, Grid, Region

Drawn = TypeVar("Drawn")
CLASS_KEYS = (
    "classification",
    "classifica",  # a shapefile's column names have ten characters
    "class",
    "classname",
    "class_name",
    "label",
    "name",
    "category",
    "type",
)


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn any error in a reader into a one-line `PoresegError` that names the file."""
    try:
        yield
    except PoresegError:
        raise
    except Exception as error:  # content of any kind fails in any way
        said = f"{type(error).__name__}: {error}"[:200]
        raise PoresegError(f"{path}: cannot be read as {what} ({said}); export it again") from None


def polygon(points: Iterable[Any]) -> BaseGeometry | None:
    """A polygon from x, y pairs, None if fewer than three; `ValueError` if not finite numbers."""
    array = np.asarray(list(points), dtype=float)
    if len(array) < 3:
        return None
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError("an outline's points are no pairs of coordinates")
    if not np.isfinite(array).all():
        raise ValueError("an outline has coordinates that are no numbers")
    return shapely.Polygon(array[:, :2])


def box(left: Any, top: Any, right: Any, bottom: Any) -> BaseGeometry:
    """A rectangle by two opposite corners."""
    x, y = sorted(map(number, (left, right))), sorted(map(number, (top, bottom)))
    return shapely.box(x[0], y[0], x[1], y[1])


def ellipse(x: Any, y: Any, x_radius: Any, y_radius: Any) -> BaseGeometry:
    """An ellipse by its centre and radii, as a polygon of 128 points of its own area."""
    circle = shapely.Point(0, 0).buffer(1, quad_segs=32)
    scale = math.sqrt(math.pi / circle.area)  # the polygon lies inside the circle otherwise
    a, b = abs(number(x_radius)) * scale, abs(number(y_radius)) * scale
    return affinity.affine_transform(circle, [a, 0, 0, b, number(x), number(y)])


def turned(area: BaseGeometry, degrees: Any, about: tuple[float, float]) -> BaseGeometry:
    """The area rotated clockwise on a screen, where y points down."""
    angle = number(degrees or 0)
    return affinity.rotate(area, angle, origin=about) if angle else area


def number(value: Any) -> float:
    """A finite number, or `ValueError`."""
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value} is no number")
    return found


def with_area(
    found: Iterable[tuple[BaseGeometry | Bitmap | None, str | None, str]], path: Path
) -> list[Region]:
    """Regions from (area, class, kind); those without an area are left out with a warning."""
    regions = []
    left_out: Counter[str] = Counter()
    for area, name, kind in found:
        if area is None:
            left_out[kind] += 1
        else:
            regions.append(Region(area, name))
    for kind, count in left_out.items():
        warn(
            f"{path}: {count} of type '{kind}' have no area and are left out; draw pores as polygons"
        )
    return regions


def along_one_axis(places: Sequence[tuple[int, int]], path: Path) -> list[int]:
    """Planes (from 1; 0 is none) of areas by (slice, time), of which only one may exceed 1.

    Raises
    ------
    PoresegError
        Both exceed 1: the order of the planes is not known.
    """
    slices = max((z for z, _ in places), default=1)
    times = max((t for _, t in places), default=1)
    if slices > 1 and times > 1:
        raise PoresegError(
            f"{path}: drawn up to slice {slices} and time {times}; wanted a stack along one of them: save "
            "label and image of one slice, or of one time, alone"
        )
    return [max(place) for place in places]


def on_plane(areas: Sequence[Drawn], planes: Sequence[int], grid: Grid, path: Path) -> list[Drawn]:
    """The areas on the image's plane of a stack; `planes` count from 1, 0 is on all.

    Raises
    ------
    PoresegError
        They are on several planes, and it is not known which one the image is; or no plane of
        its stack was chosen, and none is on the first.
    """
    several = sorted(set(planes) - {0})
    own = grid.plane or (1 if grid.planes > 1 else None)
    if own is None and len(several) > 1:
        raise PoresegError(
            f"{path}: drawn on planes {first_of([*map(str, several)])}; say which one the image is, as "
            "plane in samples.csv or with --plane, or keep those of one plane"
        )
    if own is None and several and several != [1]:
        warn(f"{path}: drawn on plane {several[0]}, which is taken for the image's")
    kept = [area for area, plane in zip(areas, planes, strict=True) if own is None or plane in (0, own)]  # fmt: skip
    if grid.plane is None and areas and not kept:
        raise PoresegError(
            f"{path}: drawn on plane {first_of([*map(str, several)])}, but of {grid.planes} planes of {grid.image} the first is read; "
            "name the one that is meant, as plane in samples.csv or with --plane"
        )
    if len(kept) < len(areas):
        warn(f"{path}: {len(areas) - len(kept)} regions are on other planes than {own}, and left out")  # fmt: skip
    return kept


def on_grid(
    shapes: Iterable[BaseGeometry | None],
    names: Iterable[str | None],
    grid: Grid,
    crs: CRS | None,
    path: Path,
) -> list[Region]:
    """Areas of a geographic file as regions in pixels; `crs` is the file's, None the grid's.

    Lines and points are left out with a warning.
    """
    found = []
    for shape, name in zip(shapes, names, strict=True):
        kind = "nothing" if shape is None or shape.is_empty else shape.geom_type
        area = _polygons(shape)
        if area is not None and not np.isfinite(shapely.get_coordinates(area)).all():
            raise ValueError("an outline has coordinates that are no numbers")
        found.append((area, name, kind))
    regions = with_area(found, path)
    pixels = _onto(grid, [region.area for region in regions], crs)
    return [replace(region, area=area) for region, area in zip(regions, pixels, strict=True)]


def _polygons(shape: BaseGeometry | None) -> BaseGeometry | None:
    """The polygons of a geometry or (nested) collection, None if it has none."""
    if shape is None or shape.is_empty:
        return None
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    if shape.geom_type != "GeometryCollection":
        return None
    found = [part for member in shapely.get_parts(shape) if (part := _polygons(member)) is not None]
    return shapely.multipolygons(shapely.get_parts(found)) if found else None


def class_name(properties: Mapping[str, Any]) -> str | None:
    """A shape's class: the first of `CLASS_KEYS`, in any case, that is not blank; or None."""
    by_name = {str(key).casefold(): value for key, value in properties.items()}
    value = next((by_name[key] for key in CLASS_KEYS if not _is_blank(by_name.get(key))), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)


def _is_blank(cell: Any) -> bool:
    """Whether a table cell is None, NaN or white space."""
    return cell is None or cell != cell or not str(cell).strip()  # NaN != NaN


def _onto(grid: Grid, areas: list[BaseGeometry], crs: CRS | None) -> list[BaseGeometry]:
    """Areas in pixels of the grid.

    Without a georeference they are pixels already; QGIS shows such an image with y up from
    0 at its top, so areas drawn there have negative y.
    """
    if crs and grid.crs and crs != grid.crs:
        areas = [shapely.transform(a, lambda xy: _moved(xy, crs, grid.crs)) for a in areas]
    if grid.crs or not grid.transform.is_identity:
        i = ~grid.transform
        return [affinity.affine_transform(a, [i.a, i.b, i.d, i.e, i.c, i.f]) for a in areas]
    below = sum(area.area for area in areas if area.centroid.y < 0) if areas else 0
    if below > sum(area.area for area in areas) / 2:  # shapes may reach over the border
        return [affinity.scale(area, yfact=-1, origin=(0, 0)) for area in areas]
    return areas


def _moved(xy: NDArray[Any], source: CRS, target: CRS | None) -> NDArray[Any]:
    return np.column_stack(transform(source, target, xy[:, 0], xy[:, 1]))
