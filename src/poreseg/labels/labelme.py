"""LabelMe JSON: polygons, rectangles, circles and masks in pixel coordinates."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from poreseg.errors import PoresegError
from poreseg.labels.documents import load_json
from poreseg.labels.label import Bitmap, Classes, Grid, Label, check_size, draw
from poreseg.labels.shapes import box, ellipse, number, polygon, with_area

NAME = "LabelMe"


def sniff(path: Path) -> bool:
    """Whether a file is LabelMe's: a JSON object with shapes."""
    content = load_json(path)
    return isinstance(content, dict) and "shapes" in content


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the file's shapes, a later one over an earlier one.

    Coordinates have 0, 0 at the top left corner of the first pixel. LabelMe has no holes:
    a hole is a later shape of class matrix, or part of a mask.
    """
    content = load_json(path)
    check_size((content.get("imageHeight"), content.get("imageWidth")), grid, path)
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise PoresegError(f"{path}: shapes is no list of shapes; wanted LabelMe JSON")
    found = ((_area(s, grid), _class(s), str(s.get("shape_type"))) for s in shapes)
    return draw(with_area(found, path), grid, classes, path)


def _class(shape: dict[str, Any]) -> str | None:
    label = shape.get("label")
    return None if label is None else str(label)


def _area(shape: dict[str, Any], grid: Grid) -> Any:
    """Geometry of one shape; None for lines and points."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points") or []
    if kind in ("polygon", "oriented_rectangle"):
        return polygon(points)
    if kind not in ("rectangle", "circle", "mask"):
        return None
    if len(points) != 2:
        raise ValueError(f"a {kind} wants two points, got {len(points)}")
    (x0, y0), (x1, y1) = points
    if kind == "circle":  # centre and a point on the rim
        radius = math.hypot(number(x1) - number(x0), number(y1) - number(y0))
        return ellipse(x0, y0, radius, radius)
    if kind == "rectangle":
        return box(x0, y0, x1, y1)
    return Bitmap(int(number(y0)), int(number(x0)), _mask(shape["mask"], grid))


def _mask(text: str, grid: Grid) -> Any:
    """A mask's pixels: a PNG in base64, no larger than the image."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as file:
        if file.width > grid.width or file.height > grid.height:
            raise ValueError(f"a mask of {file.width}x{file.height} px is larger than the image")
        return np.asarray(file.convert("L")) > 0
