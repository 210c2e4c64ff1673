"""Rasterise: any label file becomes a raster on its image's grid."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poreseg.classes import MATRIX, OURS, PORE, UNKNOWN
from poreseg.errors import PoresegError, first_of, warn
from poreseg.images.companions import fingerprint
from poreseg.images.raster import open_raster, write_raster
from poreseg.labels import mask
from poreseg.labels.label import Bitmap, Classes, Grid, Label, Region, draw
from poreseg.labels.registry import images_in, read_file
from poreseg.names import stem

OME = (".ome.tif", ".ome.tiff")
LOST = 0.2  # of a label's pores off the specimen, at most; a core's rim may hold some


def read_label(paths: Sequence[Path], grid: Grid, classes: Classes) -> Label:
    """Read the label of an image from a file of any known format, or from masks of a class each.

    Masks of one class each are named by image and class, as APEER exports them; if one of
    them is of matrix (its background), pixels that none marks are unknown. Warns if a label
    has no pore or no matrix.

    Raises
    ------
    PoresegError
        A file cannot be read; or several files are not masks of one class each.
    """
    of_no_class = [path for path in paths if class_of(path, grid.image) is None]
    if len(paths) > 1 and of_no_class:
        raise PoresegError(f"{of_no_class[0]}: of several labels each is a mask of one class, called "
                           f"{stem(grid.image)}_CLASS.ome.tif; name one label, or rename these")  # fmt: skip
    if not of_no_class:
        label = _read_classes(paths, grid, classes)
    else:
        label = read_file(paths[0], grid, classes)
        _tell_others(paths[0], grid.image)
    if not (label.values == PORE).any():
        warn(f"{paths[0]}: no pore ({label.understood}); training on it shows only what is no pore")
    elif not (label.values == MATRIX).any():
        warn(f"{paths[0]}: no matrix ({label.understood}); training on it shows only pore")
    return label


def _tell_others(path: Path, image: str) -> None:
    """Warn if a file named like one image, and so used for it only, labels other images as well."""
    held = images_in(path) if stem(path) == stem(image) else {}
    others = sorted(name for name in held if stem(name) != stem(image))
    if others and len(held) > 1:
        warn(f"{path}: has the name of {image}, so it labels that image alone, but holds labels of {first_of(others)} "
             f"as well; if they are of the study, give the file a name of its own")  # fmt: skip


def on_specimen(
    values: NDArray[np.uint8], valid: NDArray[np.bool_], image: str
) -> NDArray[np.uint8]:
    """A label (H, W), unknown off the specimen; warns if over `LOST` of its pores lie there."""
    pores = values == PORE
    lost = np.count_nonzero(pores & ~valid)
    if lost > LOST * np.count_nonzero(pores):
        warn(f"{image}: {100 * lost / np.count_nonzero(pores):.0f} % of its labelled pores lie where it shows no specimen "
             "(NaN, transparent or nodata, or its frame, see poreseg check), and do not count")  # fmt: skip
    return np.where(valid, values, np.uint8(UNKNOWN))


def class_of(path: Path, image: str) -> str | None:
    """The class in the name of an OME-TIFF called image_class, None for any other label."""
    prefix = f"{stem(image)}_"
    of_class = image and path.name.lower().endswith(OME) and stem(path).startswith(prefix)
    return stem(path).removeprefix(prefix) if of_class else None


def _read_classes(paths: Sequence[Path], grid: Grid, classes: Classes) -> Label:
    regions = []
    for path in paths:
        name = class_of(path, grid.image) or ""
        regions.append(Region(Bitmap(0, 0, mask.marked(path, grid)), name))
    names = {str(region.name): 1 for region in regions}
    partial = MATRIX in classes.values(names, paths[0]).values()
    return draw(regions, grid, replace(classes, sparse=classes.sparse or partial), paths[0])


def rasterise(
    labels: Sequence[Path | str],
    raster: Path | str,
    out: Path | str,
    *,
    image: str,
    plane: int | None = None,
    part: str | None = None,
    pore: Sequence[str | int],
    matrix: Sequence[str | int],
    unknown: Sequence[str | int],
    other: Literal["error", "matrix", "pore", "unknown"],
    value_255: Literal["pore", "unknown"],
    sparse: bool,
) -> None:
    """Write the label raster of an image.

    Parameters
    ----------
    labels
        File of any format in `poreseg.labels.registry`, or masks of a class each.
    raster
        The image's canonical raster; where it shows no specimen the label is unknown.
    out
        GeoTIFF to write, uint8 on the raster's grid: 0 matrix, 1 pore, 255 unknown.
    image
        The image's file name, its key in labels of several images.
    plane
        The image's plane, from samples.csv; it also selects that of labels of several.
    part
        Digest of the image's entry in a file of several, see `images_in`.
    pore, matrix, unknown, other, value_255, sparse
        What classes mean, see `Classes`.
    """
    with open_raster(raster) as canvas:
        grid = Grid.of(canvas, image, plane)
        valid = canvas.valid()
    paths = [Path(label) for label in labels]
    read = read_label(paths, grid, Classes(pore, matrix, unknown, other, value_255, sparse))
    write_raster(
        out,
        on_specimen(read.values, valid, image),
        crs=grid.crs,
        transform=grid.transform,
        tags={**OURS, "UNDERSTOOD": read.understood, "SOURCE_SHA256": part or fingerprint(paths)},
    )
