"""LabelMe JSON: polygons, rectangles and circles in pixel coordinates."""

import json
import math
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError, warn
from poreseg.labels.label import Classes, Grid, Label, Shape, draw, polygon

NAME = "LabelMe"


def sniff(path: Path) -> bool:
    """Whether a file is LabelMe's: a JSON object with shapes."""
    if path.suffix.lower() != ".json":
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "shapes" in content


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the file's shapes, a later one over an earlier one.

    Coordinates have 0, 0 at the top left corner of the first pixel. LabelMe has no holes:
    a hole is a later shape of class matrix.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    size = (content.get("imageHeight"), content.get("imageWidth"))
    if None not in size and size != grid.shape:
        raise PoresegError(
            f"label grid differs from raster: raster {grid.width}x{grid.height}, label drawn on "
            f"{size[1]}x{size[0]} ({path}). Label the image at full size"
        )
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise PoresegError(f"{path}: shapes is no list of shapes; wanted LabelMe JSON")
    found = [Shape(area, shape.get("label")) for shape in shapes if (area := _area(shape, path))]
    return draw(found, grid, classes, path)


def _area(shape: dict[str, Any], path: Path) -> BaseGeometry | None:
    """Geometry of one shape; lines and points have no area and are left out."""
    kind, points = shape.get("shape_type", "polygon"), shape.get("points") or []
    if kind == "polygon":
        return polygon(points, path)
    if kind in ("rectangle", "circle"):
        try:
            (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in points)
        except (TypeError, ValueError):
            raise PoresegError(f"{path}: a {kind} wants two points, got {len(points)}") from None
        if kind == "circle":  # centre and a point on the rim
            return shapely.Point(x0, y0).buffer(math.hypot(x1 - x0, y1 - y0), quad_segs=32)
        return shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    warn(f"{path}: a shape of type '{kind}' is left out; draw pores as polygons")
    return None
