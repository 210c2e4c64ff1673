"""Shapefile and GeoPackage, as QGIS writes them."""

from pathlib import Path

import shapely
from rasterio.crs import CRS

from poreseg.labels.geojson import CLASS_KEYS
from poreseg.labels.label import Classes, Grid, Label, draw
from poreseg.labels.shapes import on_grid

NAME = "vector layer"


def sniff(path: Path) -> bool:
    """Whether a file is a shapefile or a GeoPackage, by its suffix."""
    return path.suffix.lower() in (".shp", ".gpkg")


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the areas of the first layer; coordinates as in GeoJSON."""
    import pyogrio  # a second GDAL: loaded only where it is needed

    about, _, shapes, fields = pyogrio.raw.read(path)
    columns = [str(column).lower() for column in about["fields"]]
    key = next((key for key in CLASS_KEYS if key in columns), None)
    names = fields[columns.index(key)] if key else [None] * len(shapes)
    crs = CRS.from_user_input(about["crs"]) if about["crs"] else None
    regions = on_grid(shapely.from_wkb(shapes), [n and str(n) for n in names], grid, crs, path)
    return draw(regions, grid, classes, path)
