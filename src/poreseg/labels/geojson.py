"""GeoJSON polygons: QGIS (map coordinates), QuPath and poreseg's own (pixel coordinates)."""

import json
from pathlib import Path
from typing import Any

import shapely
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from shapely.geometry import shape as to_shapely

from poreseg.errors import PoresegError, warn
from poreseg.labels.label import Classes, Grid, Label, Shape, draw

NAME = "GeoJSON"
AREAS = ("Polygon", "MultiPolygon")
CLASS_KEYS = ("class", "label", "name", "category")


def sniff(path: Path) -> bool:
    """Whether a file is GeoJSON: the suffix, or a JSON object of a GeoJSON type."""
    if path.suffix.lower() == ".geojson":
        return True
    head = path.read_bytes()[:4096] if path.suffix.lower() == ".json" else b""
    return b'"FeatureCollection"' in head or b'"Feature"' in head


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the file's areas.

    Coordinates are the map's where the raster lies on a map, otherwise pixels with 0, 0
    at the top left corner of the first pixel and y down, as QuPath writes them.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PoresegError(f"{path}: cannot be read as GeoJSON: {error}") from None
    features = _features(content, path)
    crs = _crs(content, grid)
    return draw([s for f in features if (s := _shape(f, grid, crs, path))], grid, classes, path)


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    """Features of a collection, of one feature, or of QuPath's plain list."""
    if isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise PoresegError(f"{path}: found no list of features; wanted GeoJSON")
    return features


def _shape(feature: dict[str, Any], grid: Grid, crs: CRS | None, path: Path) -> Shape | None:
    geometry = feature.get("geometry") or {}
    if not isinstance(geometry, dict) or geometry.get("type") not in AREAS:
        warn(f"{path}: a feature is no area and is left out")
        return None
    try:
        if crs and grid.crs and crs != grid.crs:
            geometry = transform_geom(crs, grid.crs, geometry)
        area = to_shapely(geometry)
        bounds = shapely.bounds(area)
    except Exception as error:  # malformed coordinates fail in many ways inside the libraries
        raise PoresegError(f"{path}: a feature's coordinates are malformed ({error})") from None
    if not area.is_empty and not all(map(_finite, bounds)):
        raise PoresegError(f"{path}: a feature has coordinates that are no numbers")
    if grid.crs:
        i = ~grid.transform
        area = shapely.affinity.affine_transform(area, [i.a, i.b, i.d, i.e, i.c, i.f])
    return Shape(area, _class(feature.get("properties") or {}))


def _finite(value: float) -> bool:
    return bool(abs(value) < float("inf"))


def _class(properties: dict[str, Any]) -> str | None:
    """The class that QuPath (classification.name) or a table column gives a feature."""
    classification = properties.get("classification")
    if isinstance(classification, dict) and classification.get("name"):
        return str(classification["name"])
    return next((str(properties[key]) for key in CLASS_KEYS if properties.get(key)), None)


def _crs(content: Any, grid: Grid) -> CRS | None:
    """The CRS that the file names (QGIS and GDAL write it); else the raster's own."""
    try:
        return CRS.from_user_input(content["crs"]["properties"]["name"])
    except (KeyError, TypeError, ValueError):
        return grid.crs
