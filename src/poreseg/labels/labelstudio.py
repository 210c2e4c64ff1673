"""Label Studio JSON, full or JSON_MIN: outlines and brush masks of several images."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError, first_of
from poreseg.images.registry import SUFFIXES
from poreseg.labels.documents import entry_of, load_json
from poreseg.labels.label import Bitmap, Classes, Grid, Label, check_size, draw
from poreseg.labels.shapes import box, ellipse, polygon, turned, with_area

NAME = "Label Studio"
SUFFIXED = re.compile(r"\.\w+$")
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # the server's prefix of an uploaded file's name
# results that mark no area
NO_MARKS = {"text", "choices", "rating", "number", "taxonomy", "datetime"}
CHANNELS = 4  # of a brush mask; the last one, opacity, marks what is painted


def sniff(path: Path) -> bool:
    """Whether a file is Label Studio's: a list of tasks, with data and annotations or marks."""
    content = load_json(path)
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    task = content[0]
    return {"data", "annotations"} <= task.keys() or any(map(_is_marks, task.values()))


def images(path: Path) -> list[tuple[str, Any]]:
    """File names of the images that have marked regions, each with its marks."""
    return [(name, marks) for name, marks in _entries(path) if marks]


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the regions of an image, a later one over an earlier one.

    Coordinates are percent of the image's width and height from its top left corner; a
    rectangle rotates about its own top left corner, an ellipse about its centre.
    """
    marks = entry_of(_entries(path), grid, path)
    for mark in marks:
        check_size((mark.get("original_height"), mark.get("original_width")), grid, path)
    found = ((_area(mark, grid), _class(mark), str(mark.get("type"))) for mark in marks)
    return draw(with_area(found, path), grid, classes, path)


def _is_marks(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and "original_width" in value[0]
    )


def _entries(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Marks by image file name; of several annotations of an image the latest counts."""
    return [entry for task in load_json(path) for entry in _by_image(task, path)]


def _by_image(task: dict[str, Any], path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Marks of a task's images, of several by the name that each says it is on.

    Raises
    ------
    PoresegError
        Of several images that name tells none.
    """
    names, marks = _file_names(task), _marks(task)
    if len(set(names.values())) == 1:
        return [(next(iter(names.values())), marks)]
    if not {mark.get("to_name") for mark in marks} <= names.keys():
        raise PoresegError(
            f"{path}: a task shows {first_of([*names.values()])}, and its marks do not say on which they are; "
            f"call the images {', '.join(names)} in the labelling interface, as in the data, or make a task of each"
        )
    return [(name, [m for m in marks if m["to_name"] == key]) for key, name in names.items()]


def _file_names(task: dict[str, Any]) -> dict[str, str]:
    """Names of a task's images by their keys, or that of a first file of unknown type."""
    data = task.get("data", task)
    files = {key: name for key, value in data.items() if (name := _file_name(value))}
    images = {key: name for key, name in files.items() if Path(name).suffix.lower() in SUFFIXES}
    if not files:
        raise ValueError("a task without an image's file name")
    return images or dict([next(iter(files.items()))])


def _file_name(value: Any) -> str | None:
    """The name of an upload (less its prefix of 8 hex digits) or of a local-file link, if it is one."""
    if not isinstance(value, str):
        return None
    place = urlsplit(value)
    name = unquote(re.split(r"[/\\=]", place.query if "?d=" in value else place.path)[-1])
    if not SUFFIXED.search(name):
        return None
    return UPLOAD.sub("", name) if "upload/" in value else name


def _marks(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Marks as flat dicts; the full export nests coordinates in `value`, JSON_MIN does not."""
    if "data" not in task:
        return [mark for value in task.values() if _is_marks(value) for mark in value]
    done = [a for a in task["annotations"] if not a.get("was_cancelled")]
    latest: dict[str, Any] = max(
        done, key=lambda a: str(a.get("created_at", "")), default={"result": []}
    )
    marks: dict[str, dict[str, Any]] = {}
    for number, result in enumerate(latest["result"]):
        value = result.get("value")
        if isinstance(value, dict) and not value.keys() & NO_MARKS:
            # outline and class may be two of one id
            marks.setdefault(str(result.get("id", number)), {}).update(result | value)
    return list(marks.values())


def _class(mark: dict[str, Any]) -> str | None:
    names = next((v for k, v in mark.items() if k.endswith("labels") and isinstance(v, list)), None)
    return str(names[0]) if names else None


def _area(mark: dict[str, Any], grid: Grid) -> BaseGeometry | Bitmap | None:
    across, down = grid.width / 100, grid.height / 100
    if "rle" in mark:
        return Bitmap(0, 0, painted(mark["rle"], grid.height, grid.width)).cropped()
    if "points" in mark:
        return polygon((float(x) * across, float(y) * down) for x, y in mark["points"])
    if "radiusX" in mark:
        x, y = float(mark["x"]) * across, float(mark["y"]) * down
        area = ellipse(x, y, float(mark["radiusX"]) * across, float(mark["radiusY"]) * down)
        return turned(area, mark.get("rotation"), (x, y))
    if {"x", "y", "width", "height"} <= mark.keys():
        x, y = float(mark["x"]) * across, float(mark["y"]) * down
        area = box(x, y, x + float(mark["width"]) * across, y + float(mark["height"]) * down)
        return turned(area, mark.get("rotation"), (x, y))
    return None


def painted(runs: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels (H, W) of a brush mask.

    A bit stream, the highest of each byte first: 32 bits for the number of values; 5 for the
    bit width of a value, less one; four times 4 for bit widths of run lengths, less one. Then
    runs: one bit, set if one value repeats; two that select one of the four widths; the
    length, less one; and the value or values. Values are the bytes of an RGBA image, row by
    row. Source: `encode_rle` and `decode_rle` in the Label Studio SDK's converter.
    """
    bits = np.unpackbits(np.asarray(runs, dtype=np.uint8))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError("a brush mask ends too early")
        chunk, at = bits[at : at + count], at + count
        return int("".join("1" if bit else "0" for bit in chunk), 2)

    total = take(32)
    if total != height * width * CHANNELS:
        raise ValueError(f"a brush mask of {total} values, the image has {height * width} pixels")
    size = take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(total, bool)
    done = 0
    while done < total:
        repeats = take(1)
        run = min(take(lengths[take(2)]) + 1, total - done)
        if repeats:
            values[done : done + run] = take(size) > 0
        else:
            if at + run * size > len(bits):
                raise ValueError("a brush mask ends too early")
            values[done : done + run] = bits[at : at + run * size].reshape(run, size).any(axis=1)
            at += run * size
        done += run
    return values.reshape(height, width, CHANNELS)[..., -1]
