"""COCO JSON: polygons and run-length masks of several images in one file."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from poreseg.errors import warn
from poreseg.labels.documents import entry_of, load_json
from poreseg.labels.label import Bitmap, Classes, Grid, Label, check_size, draw
from poreseg.labels.shapes import box, polygon, with_area

NAME = "COCO"


def sniff(path: Path) -> bool:
    """Whether a file is COCO's: a JSON object with images and annotations."""
    content = load_json(path)
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def images(path: Path) -> list[tuple[str, Any]]:
    """File names of annotated images, each with its size and annotations."""
    return [(name, entry) for name, entry in _entries(path) if entry["annotations"]]


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the annotations of an image.

    Coordinates have 0, 0 at the top left corner of the first pixel; run lengths go down the
    columns and begin with unmarked pixels.
    """
    entry = entry_of(_entries(path), grid, path)
    check_size((entry.get("height"), entry.get("width")), grid, path)
    found = [_area(annotation, grid) for annotation in entry["annotations"]]
    if boxes := sum(kind == "box" for *_, kind in found):
        warn(f"{path}: {boxes} of {len(found)} annotations of {grid.image} are boxes without an outline, and are filled: "
             "pores look larger than they are; draw outlines")  # fmt: skip
    return draw(with_area(found, path), grid, classes, path)


def _entries(path: Path) -> list[tuple[str, Any]]:
    """Images by file name, each with its size and annotations, without the file's ids."""
    content = load_json(path)
    classes = {c["id"]: str(c["name"]) for c in content.get("categories") or []}
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        category = annotation.get("category_id")
        found = {key: annotation.get(key) for key in ("segmentation", "bbox")}
        name = None if category is None else classes.get(category, f"category {category}")
        of_image[annotation["image_id"]].append(found | {"class": name})
    return [
        (str(image["file_name"]), {"height": image.get("height"), "width": image.get("width"),
                                   "annotations": of_image[image["id"]]})
        for image in content["images"]
    ]  # fmt: skip


def _area(
    annotation: dict[str, Any], grid: Grid
) -> tuple[BaseGeometry | Bitmap | None, str | None, str]:
    """Area, class and kind of an annotation."""
    name, shape = annotation["class"], annotation["segmentation"]
    if isinstance(shape, dict):
        return Bitmap(0, 0, _decoded(shape, grid)).cropped(), name, "mask"
    if shape:
        parts = [part for ring in shape if (part := polygon(np.reshape(ring, (-1, 2))))]
        return shapely.multipolygons(parts) if parts else None, name, "polygon"
    if annotation["bbox"]:  # of a detection: a rectangle is all that there is
        x, y, width, height = map(float, annotation["bbox"])
        return box(x, y, x + width, y + height), name, "box"
    return None, name, "nothing"


def _decoded(runs: dict[str, Any], grid: Grid) -> NDArray[np.bool_]:
    """Pixels (H, W) of a run-length mask, whose size and lengths must be the image's.

    pycocotools reads out of bounds if lengths are short or malformed, so they are checked and
    decoded here; the tests compare with pycocotools.
    """
    height, width = (int(side) for side in runs["size"])
    if (height, width) != grid.shape:
        raise ValueError(f"a mask of {width}x{height} px, the image is {grid.width}x{grid.height}")
    counts = runs["counts"]
    lengths = np.array(_lengths(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if not len(lengths) or lengths.min() < 0 or lengths.sum() != height * width:
        raise ValueError("run lengths do not add up to the image")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def _lengths(text: str) -> list[int]:
    """Run lengths of a compressed mask: from the fourth on, differences to the last but one.

    A character less 48 has five bits, low ones first, and a sixth that is set if more follow;
    the fifth bit of the last is the sign. Source: `rleToString` of cocoapi's maskApi.c.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a compressed mask holds what is no run length")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("a compressed mask ends too early")
    return lengths
