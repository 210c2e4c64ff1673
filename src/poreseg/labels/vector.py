"""Shapefile and GeoPackage, as QGIS writes them."""

from pathlib import Path

import pyogrio
import shapely
from rasterio.crs import CRS

from poreseg.errors import warn
from poreseg.labels.label import Classes, Grid, Label, draw
from poreseg.labels.shapes import class_name, on_grid

NAME = "vector layer"


def sniff(path: Path) -> bool:
    """Whether a file is a shapefile or a GeoPackage, by its suffix."""
    return path.suffix.lower() in (".shp", ".gpkg")


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the areas of the layer of polygons; coordinates as in GeoJSON."""
    layer = _layer(path)
    about, _, shapes, fields = pyogrio.raw.read(path, layer=layer)
    columns = [str(column) for column in about["fields"]]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*fields, strict=True)]
    names = [class_name(row) for row in rows] if rows else [None] * len(shapes)
    crs = CRS.from_user_input(about["crs"]) if about["crs"] else None
    regions = on_grid(shapely.from_wkb(shapes), names, grid, crs, path)
    return draw(regions, grid, classes, path)


def _layer(path: Path) -> str:
    """The first polygon layer (warns if several), else the first one."""
    layers = [(str(name), str(kind)) for name, kind in pyogrio.list_layers(path)]
    areas = [name for name, kind in layers if "Polygon" in kind] or [layers[0][0]]
    if len(areas) > 1:
        warn(
            f"{path}: layers {', '.join(areas)}; {areas[0]} is taken. Save another as a file of its own"
        )
    return areas[0]
