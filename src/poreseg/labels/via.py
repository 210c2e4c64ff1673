"""VGG Image Annotator 2, project or exported annotations: outlines of several images."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shapely.geometry.base import BaseGeometry

from poreseg.labels.documents import entry_of, load_json
from poreseg.labels.label import Classes, Grid, Label, draw
from poreseg.labels.shapes import CLASS_KEYS, box, ellipse, polygon, turned, with_area

NAME = "VIA"


def sniff(path: Path) -> bool:
    """Whether a file is VIA's: its project, or a JSON object of files with regions."""
    content = load_json(path)
    if not isinstance(content, dict) or not content:
        return False
    first = next(iter(content.values()))
    return "_via_img_metadata" in content or (
        isinstance(first, dict) and {"filename", "regions"} <= first.keys()
    )


def images(path: Path) -> list[tuple[str, Any]]:
    """File names of images with regions, each with these and the option names."""
    texts = _texts(load_json(path))
    return [(name, [regions, texts]) for name, regions in _entries(path) if regions]


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the regions of an image; 0, 0 is the top left corner of the first pixel."""
    texts = _texts(load_json(path))
    found = (
        (_area(shape := region["shape_attributes"]), _class(region.get("region_attributes") or {}, texts),
         str(shape["name"]))
        for region in entry_of(_entries(path), grid, path)
    )  # fmt: skip
    return draw(with_area(found, path), grid, classes, path)


def _entries(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Regions by image file name; older files list them under numbers."""
    content = load_json(path)
    files: Iterable[Any] = content.get("_via_img_metadata", content).values()
    return [(str(f["filename"]), list(r.values()) if isinstance(r := f["regions"], dict) else list(r))
            for f in files]  # fmt: skip


def _area(shape: dict[str, Any]) -> BaseGeometry | None:
    kind = shape["name"]
    if kind == "polygon":
        return polygon(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
    if kind == "rect":
        x, y = float(shape["x"]), float(shape["y"])
        return box(x, y, x + float(shape["width"]), y + float(shape["height"]))
    if kind == "circle":
        return ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    if kind == "ellipse":
        x, y = float(shape["cx"]), float(shape["cy"])
        return turned(
            ellipse(x, y, shape["rx"], shape["ry"]),
            math.degrees(float(shape.get("theta") or 0)),
            (x, y),
        )
    return None


def _texts(content: Any) -> dict[str, dict[str, str]]:
    """Option names by id, by attribute; a project's regions hold only the ids."""
    attributes = content.get("_via_attributes", {}).get("region", {})
    return {
        key: about["options"]
        for key, about in attributes.items()
        if isinstance(about.get("options"), dict)
    }


def _class(attributes: dict[str, Any], texts: dict[str, dict[str, str]]) -> str | None:
    """A region's class; of checkboxes the one ticked.

    It is the first attribute of `CLASS_KEYS`, in any case, that is not empty, else the first one.
    """
    filled = {key.casefold(): key for key in attributes if attributes[key]}
    if not filled:
        return None
    key = next((filled[key] for key in CLASS_KEYS if key in filled), next(iter(filled.values())))
    value = attributes[key]
    if isinstance(value, dict):
        value = next((name for name, ticked in value.items() if ticked), None)
    return str(texts.get(key, {}).get(str(value), value)) if value else None
