"""Mask rasters: 0/1, 0/255, palette, RGB(A), antialiased, class and instance masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected

from poreseg.classes import PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.images.registry import SUFFIXES, load_picture
from poreseg.images.source import Picture
from poreseg.labels.label import Classes, Grid, Label, counted

NAME = "mask"
EXTREMES = 0.9  # of a soft mask's pixels are near black or white; in a picture far fewer
INSTANCES = 4  # values of one connected region each; fewer might as well be classes
MOST_VALUES = 4096  # that are looked up by name; a mask of more is none of classes


def sniff(path: Path) -> bool:
    """Whether a file is a raster, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Understand a mask's values.

    Values or colours that `classes` lists mean what it says. Without such: of values 0 and 1,
    0 and 255, or 0 and one other, the other is pore (255 may be said to be unknown by
    `classes`); of 0, 1 and 255, 255 is unknown; where each value is one connected region,
    all are pores (instances). Colours, or shades between 0 and the largest value: bright is
    pore. With transparency, what is painted is pore.

    Raises
    ------
    PoresegError
        The mask is of another size, or its values could mean anything.
    """
    picture = load_picture(path, grid.shape)
    label = _understood(picture, path, classes)
    if classes.sparse:
        values = label.values.copy()
        values[_unmarked(picture)] = UNKNOWN
        return Label(values, f"{label.understood}; what is not marked is unknown")
    return label


def marked(path: Path, grid: Grid) -> NDArray[np.bool_]:
    """Where a mask of one class marks anything, (H, W) bool."""
    return ~_unmarked(load_picture(path, grid.shape))


def _unmarked(picture: Picture) -> NDArray[np.bool_]:
    if picture.alpha is not None and (picture.alpha < 128).any():
        return picture.alpha < 128
    return (picture.bands == 0).all(axis=0)


def _understood(picture: Picture, path: Path, classes: Classes) -> Label:
    if picture.alpha is not None and (picture.alpha < 128).any():
        return _painted(picture.bands, picture.alpha >= 128)
    numbers = picture.bands.shape[0] == 1 and np.issubdtype(picture.bands.dtype, np.integer)
    if numbers and (label := _listed(picture.bands[0], _value_name, path, classes)):
        return label
    colours = picture.coloured().bands if picture.palette else picture.bands
    if len(colours) == 3 and colours.dtype == np.uint8:
        packed = (colours.astype(np.int32) * np.array([65536, 256, 1])[:, None, None]).sum(axis=0)
        if label := _listed(packed, _colour_name, path, classes):
            return label
    if picture.palette and not set(np.unique(picture.bands).tolist()) <= {0, 1, 255}:
        return _bright(_one_colour(np.broadcast_to(colours, (3, *picture.shape)), path), path)
    if picture.bands.shape[0] > 1:
        return _bright(_one_colour(picture.bands, path), path)
    return _values(picture.bands[0], path, classes.value_255)


def _value_name(value: int) -> str:
    return str(value)


def _colour_name(value: int) -> str:
    return f"#{value:06x}"


def _listed(band: NDArray[Any], name_of: Any, path: Path, classes: Classes) -> Label | None:
    """By what `classes` says of each value; None where it lists none of them.

    0 and black are the ground, and 255 is unknown, unless they are listed.
    """
    found, where, counts = np.unique(band, return_inverse=True, return_counts=True)
    names = [name_of(int(value)) for value in found[:MOST_VALUES]]
    if not any(value and classes.meaning(name) is not None
               for value, name in zip(found[:MOST_VALUES], names, strict=True)):  # fmt: skip
        return None
    if len(found) > MOST_VALUES:
        raise PoresegError(
            f"{path}: {len(found)} values; wanted a mask with few. Export it without smoothing"
        )
    pixels: Mapping[str, int] = dict(zip(names, counts.tolist(), strict=True))
    implied = {name_of(0): classes.ground, "255": UNKNOWN}
    asked = {n: c for n, c in pixels.items() if n not in implied or classes.meaning(n) is not None}
    meanings = implied | classes.values(asked, path)
    table = np.array([meanings[name] for name in names], np.uint8)
    return Label(table[where].reshape(band.shape), f"pixels by class: {counted(pixels)}")


def _values(band: NDArray[Any], path: Path, value_255: str) -> Label:
    if np.issubdtype(band.dtype, np.floating):
        band = np.nan_to_num(band, nan=UNKNOWN)
    found = np.unique(band)
    if len(found) > 3 or (len(found) == 3 and not set(found.tolist()) <= {0, PORE, UNKNOWN}):
        return _instances(band, found) or _bright(band, path)
    if len(found) == 3 or set(found.tolist()) == {PORE, UNKNOWN}:
        return Label(band.astype(np.uint8), "0 matrix, 1 pore, 255 unknown")
    if len(found) == 2 and found[0] != 0:
        raise PoresegError(
            f"{path}: values {found[0]} and {found[1]}; wanted 0 for matrix. Export a mask of 0 and "
            f"1, or name {found[0]} and {found[1]} in rasterise.pore and .matrix in params.yaml"
        )
    pore = found[-1]
    if pore == UNKNOWN and value_255 == "unknown":
        return Label(band.astype(np.uint8), "0 matrix, 255 unknown, no pore")
    understood = f"0 matrix, {pore} pore" if pore else "all 0, matrix"
    return Label(((band == pore) & (pore != 0)).astype(np.uint8), understood)


def _instances(band: NDArray[Any], found: NDArray[Any]) -> Label | None:
    """Pores that are numbered one by one; None where a value comes in several places."""
    values = found[found != 0]
    if len(values) < INSTANCES or not np.issubdtype(band.dtype, np.integer) or found[0] < 0:
        return None
    if connected(band, background=0, connectivity=2).max() != len(values):
        return None
    return Label((band != 0).astype(np.uint8), f"{len(values)} numbered pores")


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
            "0, 1, 255) nor a soft-edged one. Export pore and matrix alone, or name the values in "
            "rasterise.pore, .matrix and .unknown in params.yaml"
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


def _one_colour(colours: NDArray[Any], path: Path) -> NDArray[Any]:
    """Brightness (H, W) of a mask (3, H, W) in black and one colour; two could mean anything."""
    brightness = colours[:3].max(axis=0)
    painted = colours[:3, brightness > brightness.max() / 2]
    if not painted.size or brightness.max() == 0:
        return brightness
    hue = np.rint(2 * painted / painted.max(axis=0)).astype(int)  # red is 2 0 0, at any brightness
    kinds, share = np.unique(hue, axis=1, return_counts=True)
    if (many := int((share > 0.01 * painted.shape[1]).sum())) > 1:
        shown = " ".join("#" + "".join(f"{min(255, 128 * part):02x}" for part in kind)
                         for kind in kinds.T[share.argsort()[::-1]][:4])  # fmt: skip
        raise PoresegError(
            f"{path}: {many} colours beside black (about {shown}); wanted one, for pore. Export the "
            "pores alone, or name each colour in rasterise.pore, .matrix and .unknown in params.yaml"
        )
    return brightness
