"""CVAT for images 1.1 XML: outlines and masks of several images."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError
from poreseg.labels.documents import entry_of, load_xml
from poreseg.labels.label import Bitmap, Classes, Grid, Label, check_size, draw
from poreseg.labels.shapes import box, ellipse, number, polygon, turned, with_area

NAME = "CVAT"
KINDS = ("polygon", "box", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton")


def sniff(path: Path) -> bool:
    """Whether a file is CVAT's: XML with annotations."""
    root = load_xml(path)
    return root is not None and root.tag == "annotations"


def images(path: Path) -> list[tuple[str, Any]]:
    """File names of the images that have shapes, each with its size and shapes."""
    return [
        (name, [_size(image), [[shape.tag, shape.attrib] for shape in shapes]])
        for name, image in _entries(path) if (shapes := _shapes(image))
    ]  # fmt: skip


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the shapes of an image in z order, later ones over earlier ones.

    Coordinates have 0, 0 at the top left corner of the first pixel; run lengths go along the
    rows of the mask's box and begin with unmarked pixels.
    """
    image = entry_of(_entries(path), grid, path)
    check_size(_size(image), grid, path)
    shapes = sorted(_shapes(image), key=lambda shape: int(shape.get("z_order") or 0))
    found = ((_area(shape, grid), shape.get("label"), shape.tag) for shape in shapes)
    return draw(with_area(found, path), grid, classes, path)


def _entries(path: Path) -> list[tuple[str, Element]]:
    root = load_xml(path)
    assert root is not None
    if root.find("track") is not None:
        raise PoresegError(f"{path}: is CVAT for video; export it as CVAT for images 1.1")
    return [(str(image.get("name")), image) for image in root.iter("image")]


def _size(image: Element) -> tuple[int | None, int | None]:
    """Height and width, where they are written."""
    height, width = (int(side) if (side := image.get(key)) else None for key in ("height", "width"))
    return height, width


def _shapes(image: Element) -> list[Element]:
    return [element for element in image if element.tag in KINDS]


def _area(shape: Element, grid: Grid) -> BaseGeometry | Bitmap | None:
    about: Any = shape.attrib
    if shape.tag == "polygon":
        return polygon(pair.split(",") for pair in about["points"].split(";"))
    if shape.tag == "mask":
        return _mask(about, grid)
    if shape.tag == "box":
        area = box(about["xtl"], about["ytl"], about["xbr"], about["ybr"])
    elif shape.tag == "ellipse":
        area = ellipse(about["cx"], about["cy"], about["rx"], about["ry"])
    else:
        return None
    return turned(area, about.get("rotation"), (area.centroid.x, area.centroid.y))


def _mask(about: Any, grid: Grid) -> Bitmap:
    height, width = int(about["height"]), int(about["width"])
    if not (0 < height <= grid.height and 0 < width <= grid.width):
        raise ValueError(f"a mask of {width}x{height} px, the image is {grid.width}x{grid.height}")
    runs = np.array([int(run) for run in about["rle"].split(",")])
    if runs.min() < 0 or runs.sum() != height * width:
        raise ValueError("run lengths do not add up to the mask's box")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return Bitmap(int(number(about["top"])), int(number(about["left"])), pixels).cropped()
