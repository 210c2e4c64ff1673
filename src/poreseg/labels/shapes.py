"""Outlines from the numbers of label files; what are no numbers is one line."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError, warn
from poreseg.labels.label import Bitmap, Grid, Region


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn what malformed content raises in a reader into one line that names the file."""
    try:
        yield
    except PoresegError:
        raise
    except Exception as error:  # content of any kind fails in any way
        said = f"{type(error).__name__}: {error}"[:200]
        raise PoresegError(f"{path}: cannot be read as {what} ({said}); export it again") from None


def polygon(points: Iterable[Any]) -> BaseGeometry:
    """A polygon from x, y pairs; `ValueError` where they are fewer than three, or no numbers."""
    array = np.asarray(list(points), dtype=float)
    if array.ndim != 2 or array.shape[0] < 3 or array.shape[1] < 2:
        raise ValueError(f"an outline of {len(array)} points is no polygon")
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
    """Turned clockwise as seen on the screen, where y points down."""
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
    """Regions out of area, class and kind of shape; those without an area are told and left out."""
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


def on_grid(
    shapes: Iterable[BaseGeometry | None],
    names: Iterable[str | None],
    grid: Grid,
    crs: CRS | None,
    path: Path,
) -> list[Region]:
    """Areas of a geographic file as regions in pixels; `crs` is the file's, None the grid's.

    Lines and points are left out, which is told.
    """
    found = []
    for shape, name in zip(shapes, names, strict=True):
        kind = "nothing" if shape is None else shape.geom_type
        area = shape if kind in ("Polygon", "MultiPolygon") else None
        if area is not None and not np.isfinite(shapely.get_coordinates(area)).all():
            raise ValueError("an outline has coordinates that are no numbers")
        found.append((area, name, kind))
    regions = with_area(found, path)
    pixels = _onto(grid, [region.area for region in regions], crs)
    return [replace(region, area=area) for region, area in zip(regions, pixels, strict=True)]


def _onto(grid: Grid, areas: list[BaseGeometry], crs: CRS | None) -> list[BaseGeometry]:
    """Areas in pixels of the grid.

    Without a map they are pixels already; QGIS shows an image without a map with y up from
    0 at its top, and what is drawn over it there has y below 0 throughout.
    """
    if crs and grid.crs and crs != grid.crs:
        areas = [shapely.transform(a, lambda xy: _moved(xy, crs, grid.crs)) for a in areas]
    if grid.crs or not grid.transform.is_identity:
        i = ~grid.transform
        return [affinity.affine_transform(a, [i.a, i.b, i.d, i.e, i.c, i.f]) for a in areas]
    bounds = np.array([area.bounds for area in areas if not area.is_empty])
    if len(bounds) and bounds[:, 3].max() <= 0 and bounds[:, 1].min() < 0:
        return [affinity.scale(area, yfact=-1, origin=(0, 0)) for area in areas]
    return areas


def _moved(xy: NDArray[Any], source: CRS, target: CRS | None) -> NDArray[Any]:
    return np.column_stack(transform(source, target, xy[:, 0], xy[:, 1]))
