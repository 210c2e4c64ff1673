"""Mask rasters: 0/1, 0/255, palette, RGB(A) and antialiased masks, as people have them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poreseg.classes import PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.images.raster import Picture, load_picture
from poreseg.labels.label import Classes, Grid, Label

NAME = "mask"
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
EXTREMES = 0.9  # of a soft mask's pixels are near black or white; in a picture far fewer


def sniff(path: Path) -> bool:
    """Whether a file is a raster, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Understand a mask's values.

    Values 0 and 1, 0 and 255, or 0 and one other: the other is pore (255 may be said to be
    unknown by `classes`). Values 0, 1 and 255: 255 is unknown. Colours, or shades between 0 and the largest value: bright is pore.
    With transparency, what is painted is pore.

    Raises
    ------
    PoresegError
        The mask is of another size, or its values could mean anything.
    """
    picture = load_picture(path)
    if picture.shape != grid.shape:
        raise PoresegError(
            f"label grid differs from raster: raster {grid.width}x{grid.height}, label "
            f"{picture.shape[1]}x{picture.shape[0]} ({path}). Export the label at full size"
        )
    if picture.alpha is not None and (picture.alpha < 128).any():
        return _painted(picture.bands, picture.alpha >= 128)
    if picture.palette and not set(np.unique(picture.bands).tolist()) <= {0, 1, 255}:
        return _bright(_one_colour(_colours(picture), path), path)
    if picture.bands.shape[0] > 1:
        return _bright(_one_colour(picture.bands, path), path)
    return _values(picture.bands[0], path, classes.value_255)


def _values(band: NDArray[Any], path: Path, value_255: str) -> Label:
    if np.issubdtype(band.dtype, np.floating):
        band = np.nan_to_num(band, nan=UNKNOWN)
    found = np.unique(band)
    if len(found) > 3 or (len(found) == 3 and not set(found.tolist()) <= {0, PORE, UNKNOWN}):
        return _bright(band, path)
    if len(found) == 3 or set(found.tolist()) == {PORE, UNKNOWN}:
        return Label(band.astype(np.uint8), "0 matrix, 1 pore, 255 unknown")
    if len(found) == 2 and found[0] != 0:
        raise PoresegError(
            f"{path}: values {found[0]} and {found[1]}; wanted 0 for matrix. Export a mask of 0 and 1"
        )
    pore = found[-1]
    if pore == UNKNOWN and value_255 == "unknown":
        return Label(band.astype(np.uint8), "0 matrix, 255 unknown, no pore")
    understood = f"0 matrix, {pore} pore" if pore else "all 0, matrix"
    return Label(((band == pore) & (pore != 0)).astype(np.uint8), understood)


def _bright(band: NDArray[Any], path: Path) -> Label:
    """Soft-edged masks: pore from half of the largest value up."""
    top = float(band.max())
    if top == 0:
        return Label(np.zeros(band.shape, np.uint8), "all black, matrix")
    extreme = float(((band < 0.2 * top) | (band > 0.8 * top)).mean())
    values = np.unique(band)
    if extreme < EXTREMES or (3 <= len(values) <= 24 and top < 128):
        shown = ", ".join(str(value) for value in values[:8]) + (" ..." if len(values) > 8 else "")
        raise PoresegError(
            f"{path}: values {shown} are neither a mask (0 and 1, 0 and 255; 255 unknown in "
            "0, 1, 255) nor a soft-edged one. Export pore and matrix alone"
        )
    return Label((band >= top / 2).astype(np.uint8), f"soft mask, pore from {top / 2:g} up")


def _painted(bands: NDArray[Any], painted: NDArray[np.bool_]) -> Label:
    """Pores painted on a transparent ground; where both colours are painted, the bright one."""
    bright = bands.max(axis=0) >= 128
    if (bright & painted).any() and (~bright & painted).any():
        return Label(
            (bright & painted).astype(np.uint8), "transparent and dark matrix, bright pore"
        )
    return Label(painted.astype(np.uint8), "transparent matrix, painted pore")


def _colours(picture: Picture) -> NDArray[np.uint8]:
    """Colours (3, H, W) of a palette image."""
    palette = picture.palette or {}
    table = np.array([palette.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)
    return np.moveaxis(table[picture.bands[0]], -1, 0)


def _one_colour(colours: NDArray[Any], path: Path) -> NDArray[Any]:
    """Brightness (H, W) of a mask (3, H, W) in black and one colour; two could mean anything."""
    brightness = colours[:3].max(axis=0)
    painted = colours[:3, brightness > brightness.max() / 2]
    if not painted.size or brightness.max() == 0:
        return brightness
    hue = np.rint(2 * painted / painted.max(axis=0)).astype(int)  # red is 2 0 0, at any brightness
    share = np.unique(hue, axis=1, return_counts=True)[1]
    if (many := int((share > 0.01 * painted.shape[1]).sum())) > 1:
        raise PoresegError(
            f"{path}: {many} colours beside black; wanted one, for pore. Export the pores alone, "
            "or a mask of 0 matrix, 1 pore, 255 unknown"
        )
    return brightness
