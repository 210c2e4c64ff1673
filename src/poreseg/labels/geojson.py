"""GeoJSON polygons: QGIS (map coordinates), QuPath and poreseg's own (pixel coordinates)."""

from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from shapely.geometry import shape as to_shapely
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError
from poreseg.labels.documents import load_json
from poreseg.labels.label import Classes, Grid, Label, draw
from poreseg.labels.shapes import along_one_axis, class_name, ellipse, on_grid, on_plane

NAME = "GeoJSON"


def sniff(path: Path) -> bool:
    """Whether a file is GeoJSON: the suffix, or an object or list of a GeoJSON type."""
    if path.suffix.lower() == ".geojson":
        return True
    content = load_json(path)
    if isinstance(content, list) and content:  # QuPath's plain list
        return isinstance(content[0], dict) and content[0].get("type") == "Feature"
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the file's areas.

    Coordinates are the map's if the raster is georeferenced, otherwise pixels with 0, 0 at
    the top left corner of the first pixel and y down, as QuPath writes them; QGIS shows
    other images with y up from 0 at the top, so all y are negative. Of a stack, only areas
    that QuPath drew on the image's plane count.
    """
    content = load_json(path)
    features = _features(content, path)
    features = on_plane(features, _planes(features, path), grid, path)
    shapes = [_shape(feature.get("geometry")) for feature in features]
    names = [_class(feature.get("properties") or {}) for feature in features]
    regions = on_grid(shapes, names, grid, _crs(content), path)
    return draw(regions, grid, classes, path)


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    """Features of a collection, one feature, a geometry, or QuPath's list."""
    if isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    elif isinstance(content, dict) and "coordinates" in content:  # a bare geometry
        content = [{"geometry": content}]
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise PoresegError(f"{path}: found no list of features; wanted GeoJSON")
    return features


def _planes(features: list[dict[str, Any]], path: Path) -> list[int]:
    """Planes of QuPath's areas, from 1; all 0 (any) if all are on the first, as of a single image."""
    planes = [(feature.get("geometry") or {}).get("plane") or {} for feature in features]
    found = along_one_axis([(int(p.get("z") or 0) + 1, int(p.get("t") or 0) + 1) for p in planes], path)  # fmt: skip
    return found if max(found, default=1) > 1 else [0] * len(found)


def _shape(geometry: Any) -> BaseGeometry | None:
    if not geometry:
        return None
    shape = to_shapely(geometry)
    if geometry.get("isEllipse"):  # QuPath writes it as a coarse polygon
        left, top, right, bottom = shape.bounds
        return ellipse(
            (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
        )
    return shape


def _class(properties: dict[str, Any]) -> str | None:
    """The class that QuPath (classification) or a table column gives a feature."""
    classification = properties.get("classification")
    if isinstance(classification, dict):
        name = classification.get("name") or ": ".join(map(str, classification.get("names") or []))
        return str(name) if name else None
    return class_name(properties)


def _crs(content: Any) -> CRS | None:
    """The CRS that the file names (QGIS and GDAL write it)."""
    try:
        return CRS.from_user_input(content["crs"]["properties"]["name"])
    except (KeyError, TypeError, ValueError):
        return None
