"""Rasterise: any label file becomes a raster on its image's grid."""

from collections.abc import Sequence
from pathlib import Path

from poreseg.classes import PORE, UNKNOWN
from poreseg.errors import warn
from poreseg.files import sha256
from poreseg.images.raster import open_raster, write_raster
from poreseg.labels.label import Classes, Grid, Label
from poreseg.labels.registry import reader_of


def read_label(path: Path, grid: Grid, classes: Classes) -> Label:
    """Read a label of any known format on a raster's grid; warn where it has no pore."""
    label: Label = reader_of(path).read(path, grid, classes)
    if not (label.values == PORE).any():
        warn(f"{path}: no pore ({label.understood}); it teaches what is no pore")
    return label


def rasterise(
    label: Path | str,
    raster: Path | str,
    out: Path | str,
    *,
    pore: Sequence[str],
    unknown: Sequence[str],
    value_255: str,
) -> None:
    """Write the label raster of an image.

    Parameters
    ----------
    label
        File of any format in `poreseg.labels.registry`.
    raster
        The image's canonical raster; where it shows no specimen the label is unknown.
    out
        GeoTIFF to write, uint8 on the raster's grid: 0 matrix, 1 pore, 255 unknown.
    pore, unknown
        Class names of polygon formats.
    value_255
        What 255 is in a mask of 0 and 255 alone, "pore" or "unknown".
    """
    with open_raster(raster) as image:
        grid = Grid(image.height, image.width, image.crs, image.transform)
        valid = image.valid()
    read = read_label(Path(label), grid, Classes(pore, unknown, value_255))
    values = read.values.copy()
    values[~valid] = UNKNOWN
    write_raster(
        out,
        values,
        crs=grid.crs,
        transform=grid.transform,
        tags={"UNDERSTOOD": read.understood, "SOURCE_SHA256": sha256(label)},
    )
