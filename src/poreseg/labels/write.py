"""Label rasters as files that labelling tools read; each gives back exactly the pixels."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize, shapes
from shapely.geometry import shape as to_shapely

from poreseg.classes import MATRIX, OURS, PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.files import whole, write_json
from poreseg.images.raster import write_raster
from poreseg.labels.label import Grid

FORMS = {"mask": (".png", ".tif", ".tiff"), "geojson": (".geojson", ".json"),
         "labelme": (".json",), "coco": (".json",)}  # fmt: skip
NAMES = {PORE: "pore", UNKNOWN: "unknown", MATRIX: "matrix"}


def write_label(
    path: Path,
    values: NDArray[np.uint8],
    grid: Grid,
    form: str,
    image: str | None = None,
    ground: int = MATRIX,
) -> None:
    """Write a label.

    Parameters
    ----------
    path
        File to write, with a suffix of the form.
    values
        (H, W): 0 matrix, 1 pore, 255 unknown.
    grid
        Its pixel grid; `grid.image` is the image's file name.
    form
        A key of `FORMS`.
    image
        Path of the image from `path`'s folder, for LabelMe; else `grid.image`.
    ground
        The value of unmarked pixels, which is not outlined, see `Classes.ground`.
    """
    if path.suffix.lower() not in FORMS[form]:
        raise PoresegError(
            f"{path}: {form} needs a file that ends in {' or '.join(FORMS[form])}; rename it"
        )
    if form == "geojson":
        write_geojson(path, [(0, values)], grid, ground)
    elif form == "labelme":
        write_json(path, _labelme(values, grid, image or grid.image, ground))
    elif form == "coco":
        write_json(path, _coco(values, grid, ground))
    elif path.suffix.lower() == ".png":
        with whole(path) as temporary:
            Image.fromarray(_mask(values)).save(temporary)
    else:
        write_raster(path, values, nodata=UNKNOWN, crs=grid.crs, transform=grid.transform, tags=OURS)  # fmt: skip


def write_geojson(
    path: Path | str,
    parts: Iterable[tuple[int, NDArray[np.uint8]]],
    grid: Grid,
    ground: int = MATRIX,
) -> None:
    """Write GeoJSON of all areas except `ground`, in map coordinates if georeferenced.

    `parts` of the image, each with its first row, are written one after the other. Properties
    besides `class` make them annotations of it in QuPath (QuPath docs, "Exporting annotations").
    """
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if grid.crs:  # obsolete, but read by QGIS and GDAL; RFC 7946 allows only WGS 84
        head["crs"] = {"type": "name", "properties": {"name": grid.crs.to_string()}}
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [')
        comma = ""
        for top, values in parts:
            for name, shape in outlines(values, ground, grid.transform @ Affine.translation(0, top)):  # fmt: skip
                about = {"class": name, "objectType": "annotation", "classification": {"name": name}}  # QuPath's  # fmt: skip
                feature = {"type": "Feature", "properties": about, "geometry": shape}
                file.write(f"{comma}\n{json.dumps(feature)}")
                comma = ","
        file.write("\n]}\n")


def outlines(
    values: NDArray[np.uint8], ground: int = MATRIX, place: Affine | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and polygon of each connected area except `ground`, along pixel borders.

    Pixels that touch only at a corner have two outlines: a single one would intersect itself.
    """
    found = shapes(
        values, mask=values != ground, connectivity=4, transform=place or Affine.identity()
    )
    for geometry, value in found:
        yield NAMES[int(value)], geometry


def _mask(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0, 1 and 255; without unknown 0 and 255, visible in any viewer."""
    return values if (values == UNKNOWN).any() else values * np.uint8(255)


def _labelme(values: NDArray[np.uint8], grid: Grid, image: str, ground: int) -> dict[str, Any]:
    """LabelMe JSON; it has no holes: a hole is a later shape of `ground`, an island in it later still.

    Rings are written from the largest to the smallest, to keep their nesting.
    """
    rings = [
        (ring, not hole, NAMES[ground] if hole else name)
        for name, geometry in outlines(values, ground)
        for hole, ring in enumerate(geometry["coordinates"])
    ]
    rings.sort(key=lambda item: (-shapely.Polygon(item[0]).area, item[1]))  # a hole's filling comes after it  # fmt: skip
    return {
        "version": "5.5.0", "flags": {},
        "shapes": [{"label": name, "points": [list(point) for point in ring[:-1]], "group_id": None,
                    "shape_type": "polygon", "flags": {}} for ring, _, name in rings],
        "imagePath": image, "imageData": None,
        "imageHeight": grid.height, "imageWidth": grid.width,
    }  # fmt: skip


def _coco(values: NDArray[np.uint8], grid: Grid, ground: int) -> dict[str, Any]:
    """COCO JSON; its polygons have no holes: those are run-length masks."""
    ids = {name: number for number, name in enumerate(NAMES.values(), start=1)}
    annotations = []
    for number, (name, geometry) in enumerate(outlines(values, ground), start=1):
        rings, shape = geometry["coordinates"], to_shapely(geometry)
        left, top, right, bottom = shape.bounds
        annotations.append({
            "id": number, "image_id": 1, "category_id": ids[name], "iscrowd": int(len(rings) > 1),
            "bbox": [left, top, right - left, bottom - top], "area": shape.area,
            "segmentation": _runs(geometry, grid) if len(rings) > 1
            else [[coordinate for point in rings[0][:-1] for coordinate in point]],
        })  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": grid.image, "height": grid.height, "width": grid.width}],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": annotations,
    }


def _runs(geometry: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """Run lengths down the columns, unmarked first, rasterised within the bounding box."""
    x, y = np.array(geometry["coordinates"][0]).T.astype(int)
    left, top = int(x.min()), int(y.min())
    size = int(y.max()) - top, int(x.max()) - left
    pixels = rasterize(
        [(geometry, 1)], size, transform=Affine.translation(left, top), dtype=np.uint8
    )
    cols, rows = np.nonzero(pixels.T)
    marked = (cols + left) * grid.height + rows + top  # column-major index of each pixel
    breaks = np.flatnonzero(np.diff(marked) > 1)
    first = np.concatenate([marked[:1], marked[breaks + 1]])
    last = np.concatenate([marked[breaks], marked[-1:]]) + 1
    ends = np.stack([first, last], axis=1).ravel()
    counts = np.diff([0, *ends, grid.height * grid.width]).tolist()
    return {"size": list(grid.shape), "counts": counts}
