"""JSON and XML label files, read once for sniffing and reading; and their entries by image."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from poreseg.errors import PoresegError, nearest
from poreseg.labels.label import Grid
from poreseg.labels.shapes import parsing
from poreseg.names import file_name, stem

JSON = (".json", ".geojson")


def load_json(path: Path) -> Any:
    """The content of a JSON file, cached, so not to be changed; None for another suffix.

    Raises
    ------
    PoresegError
        It is not valid JSON.
    """
    if path.suffix.lower() not in JSON:
        return None
    with parsing(path, "JSON"):
        return _json(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)  # every reader looks at the same file
def _json(path: Path, changed: int) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def load_xml(path: Path) -> Element | None:
    """The root of an XML file, no entities allowed; None for another suffix."""
    if path.suffix.lower() != ".xml":
        return None
    with parsing(path, "XML"):
        return _xml(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _xml(path: Path, changed: int) -> Element:
    root: Element = fromstring(path.read_bytes())
    return root


def entry_of(entries: Sequence[tuple[str, Any]], grid: Grid, path: Path) -> Any:
    """The entry of the grid's image in a label file of several.

    It is found by file name (without folders), else by stem; a single entry is taken whatever
    its name. `PoresegError` if none or several match.
    """
    names = [file_name(name) for name, _ in entries]
    image = file_name(grid.image)
    found = [entry for name, (_, entry) in zip(names, entries, strict=True) if name == image]
    if not found:
        found = [e for n, (_, e) in zip(names, entries, strict=True) if stem(n) == stem(grid.image)]
    if len(found) > 1:
        raise PoresegError(f"{path}: {len(found)} images in it are named {grid.image}; rename them, "
                           "or export each image's labels as a file")  # fmt: skip
    if found or len(entries) == 1:
        return found[0] if found else entries[0][1]
    hint = nearest(grid.image, names)
    raise PoresegError(
        f"{path}: holds {len(entries)} images, {grid.image or 'this one'} is not among them{hint}"
    )
