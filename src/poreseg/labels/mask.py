"""Mask rasters: 0/1, 0/255, palette, RGB(A), antialiased, class and instance masks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected

from poreseg.classes import MATRIX, OURS, PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.images.gdal import TIFFS
from poreseg.images.raster import open_raster
from poreseg.images.registry import SUFFIXES
from poreseg.images.source import Picture
from poreseg.labels.label import Classes, Grid, Label, counted
from poreseg.labels.picture import load_picture

NAME = "mask"
EXTREMES = 0.9  # of a soft mask's pixels are near black or white; in a photo far fewer
INSTANCES = 10  # values, at least, of one region each are numbered pores; fewer may be classes
SPLIT = 1.05  # regions per number, at most: a few pores may be split
SLICED = 3  # regions per number, at most, in a slice of pores numbered in a volume
FEW = 24  # values, at most, of a mask of classes
EDGE = 4  # px from full brightness, at most; beyond, a shade is no edge of it
ALIKE = 0.8  # of such pixels have one shade if they are of another class; resampling gives several
SHADED = 0.01  # of the marked pixels; shades that fill more are no soft edges
LOSSY = (".jpg", ".jpeg")  # compression may turn 0 into 1 near edges
BLACK = 32  # all channels of black are below
MOST_VALUES = 4096  # that are looked up by name; a mask of more is not one of classes


def sniff(path: Path) -> bool:
    """Whether a file is a raster, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Read a mask by the meaning of its values.

    Values or colours that `classes` lists mean what it says. If it lists none of them: of values
    0 and 1, 0 and 255, or 0 and one other, the other is pore (or 255 unknown, by
    `classes.value_255`); of 0, 1 and 255, 255 is unknown; if each value is one connected region,
    or nearly so with many values, all are pores (instances); of colours or shades, bright ones
    are pore, if shades are only edges; of a transparent mask, painted pixels are pore. Nodata is
    unknown, except nodata 0, which many programs write for the background of a mask. A mask that
    poreseg wrote as TIFF keeps its meaning, whatever `classes` lists.

    Raises
    ------
    PoresegError
        The mask is of another size or place, or its values could mean anything.
    """
    picture = load_picture(path, grid)
    if _is_ours(picture, path):
        classes = Classes(value_255="unknown")
    unknown = ~picture.valid & (picture.alpha is None)
    label = _listed(picture, path, classes)
    if label is None:
        label = _guessed(picture, unknown, path, classes)
        if classes.sparse:
            unknown |= _unmarked(picture.coloured() if _by_colour(picture, path) else picture)
            label = Label(label.values, f"{label.understood}; what is not marked is unknown")
    values = label.values.copy()
    values[unknown] = UNKNOWN
    return Label(values, label.understood)


def _is_ours(picture: Picture, path: Path) -> bool:
    """Whether poreseg wrote a mask, as TIFF, and it holds only 0, 1 and 255."""
    if path.suffix.lower() not in TIFFS:
        return False
    with open_raster(path) as raster:
        ours = OURS.items() <= raster.tags.items()
    return ours and set(np.unique(picture.bands).tolist()) <= {MATRIX, PORE, UNKNOWN}


def marked(path: Path, grid: Grid) -> NDArray[np.bool_]:
    """Where a mask of one class marks anything, (H, W) bool."""
    return ~_unmarked(load_picture(path, grid))


def _unmarked(picture: Picture) -> NDArray[np.bool_]:
    painted = _painted_on(picture)
    return np.asarray((picture.bands == 0).all(axis=0) if painted.all() else ~painted)


def _painted_on(picture: Picture) -> NDArray[np.bool_]:
    """Painted pixels (H, W) bool: at least half the largest opacity; all without alpha."""
    if picture.alpha is None:
        return np.ones(picture.shape, bool)
    return np.asarray(picture.alpha >= max(1.0, picture.alpha.max() / 2))


def _guessed(picture: Picture, unknown: NDArray[np.bool_], path: Path, classes: Classes) -> Label:
    """What a mask's values mean where no class says so."""
    colours = np.where(unknown, 0, picture.coloured().bands)
    if not (painted := _painted_on(picture)).all():
        _one_colour(np.where(painted, colours, 0), path)
        return _painted(colours, painted)
    if _by_colour(picture, path):
        return _bright(_one_colour(np.broadcast_to(colours, (3, *picture.shape)), path), path)
    if picture.bands.shape[0] > 1:
        return _bright(_one_colour(colours, path), path)
    return _values(np.where(unknown, 0, picture.bands[0]), path, classes.value_255)


def _by_colour(picture: Picture, path: Path) -> bool:
    """Whether the colours of a palette mask count, and not its values.

    Values of 0, 1 and 255 count, unless 0 is white, 1 black and 255 absent: an image with few colours.

    Raises
    ------
    PoresegError
        Only 0 and 1 occur, 0 neither black nor white, 1 black (or unset): it could be either.
    """
    if not picture.palette:
        return False
    colours, values = picture.palette, set(np.unique(picture.bands).tolist())
    ground, first = (colours.get(value, ())[:3] for value in (0, 1))
    if values == {0, 1} and first and max(first) < BLACK <= max(ground) and ground != (255,) * 3:
        shown = "#{:02x}{:02x}{:02x}".format(*ground)
        raise PoresegError(
            f"{path}: a mask of 0 and 1 whose palette shows 0 as {shown} and 1 as black; if {shown} is pore, name "
            f'"{shown}" in rasterise.pore and "#000000" in .matrix in params.yaml, else save it without a palette'
        )
    few_colours = (ground, first) == ((255,) * 3, (0,) * 3) and 255 not in values
    return few_colours or not values <= {0, 1, 255}


def _listed(picture: Picture, path: Path, classes: Classes) -> Label | None:
    """Label by the values or colours in `classes`; None if none of them is found."""
    painted = picture.valid if picture.alpha is None else _painted_on(picture)
    band = picture.bands[0]
    if len(picture.bands) == 1 and np.isfinite(band).all() and (band == np.rint(band)).all():
        label = _by_name(band, painted, str, path, classes)
        if label is not None:
            return label
    colours = picture.coloured().bands
    if colours.dtype != np.uint8:
        return None
    red, green, blue = np.broadcast_to(colours, (3, *picture.shape))
    packed = (red.astype(np.uint32) << 16) | (green.astype(np.uint32) << 8) | blue
    return _by_name(packed, painted, "#{:06x}".format, path, classes)


def _by_name(
    band: NDArray[Any],
    painted: NDArray[np.bool_],
    name_of: Callable[[int], str],
    path: Path,
    classes: Classes,
) -> Label | None:
    """Label by the names of a band's integer values; None if none of them is listed.

    If unlisted, 0 is `classes.ground` and 255 unknown. Unpainted pixels are `classes.ground`.
    """
    found, counts = np.unique(band[painted], return_counts=True)
    names = [name_of(int(value)) for value in found[:MOST_VALUES]]
    if all(classes.meaning(name) is None for name in names):
        return None
    if len(found) > MOST_VALUES:
        raise PoresegError(
            f"{path}: {len(found)} values; wanted a mask with few. Export it without smoothing"
        )
    pixels: Mapping[str, int] = dict(zip(names, counts.tolist(), strict=True))
    implied = {name_of(0): classes.ground, "255": UNKNOWN}
    asked = {n: c for n, c in pixels.items() if n not in implied or classes.meaning(n) is not None}
    meanings = implied | classes.values(asked, path)
    values = np.full(band.shape, classes.ground, np.uint8)
    of = np.array([meanings[name] for name in names], np.uint8)
    values[painted] = of[np.searchsorted(found, band[painted])]
    return Label(values, f"pixels by class: {counted(pixels)}")


def _values(band: NDArray[Any], path: Path, value_255: str) -> Label:
    if np.issubdtype(band.dtype, np.floating):
        band = np.nan_to_num(band, nan=UNKNOWN)
    found = np.unique(band)
    soft = path.suffix.lower() in LOSSY or not set(found.tolist()) <= {0, PORE, UNKNOWN}
    if len(found) > 3 or (len(found) == 3 and soft):
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
    """Label of numbered pores; None if values occur in several regions each, as classes do.

    From ten numbers up, a few split pores are tolerated (`SPLIT`), and more (`SLICED`) above `FEW`
    numbers. Three numbers suffice in integers of over 8 bits, which classes do not need.
    """
    values = found[found != 0]
    deep = np.issubdtype(band.dtype, np.integer) and band.dtype.itemsize > 1
    if len(values) < (3 if deep else INSTANCES) or found[0] != 0 or (found != np.rint(found)).any():
        return None
    regions = connected(band.astype(np.int64), background=0, connectivity=2).max()
    sliced = len(values) > FEW and regions <= SLICED * len(values) and _shaded(band)
    if regions > SPLIT * len(values) + (len(values) >= INSTANCES) and not sliced:
        return None
    return Label((band != 0).astype(np.uint8), f"{len(values)} numbered pores")


def _bright(band: NDArray[Any], path: Path) -> Label:
    """Label of a soft-edged mask: pore from half of the largest value up.

    Values between are edges, a few px wide; `PoresegError` if shades fill areas.
    """
    top = float(band.max())
    if top == 0:
        return Label(np.zeros(band.shape, np.uint8), "all black, matrix")
    values, counts = np.unique(band, return_counts=True)
    extreme = float(((band < 0.2 * top) | (band > 0.8 * top)).mean())
    most = set(values[counts.argsort()[-2:]].tolist())
    classes = 3 <= len(values) <= FEW and (top < 128 or most != {0, top} or _has_lines(band))
    if extreme < EXTREMES or classes or _shaded(band):
        shown = ", ".join(str(value) for value in values[:8]) + (" ..." if len(values) > 8 else "")
        raise PoresegError(
            f"{path}: values {shown} are neither a mask (0 and 1, 0 and 255; 255 unknown in "
            f"0, 1, 255) nor a soft-edged one, nor numbered pores (if fewer than {INSTANCES}, each in one place). Export pore and matrix alone, or name the values in "
            "rasterise.pore, .matrix and .unknown in params.yaml"
        )
    return Label((band >= top / 2).astype(np.uint8), f"soft mask, pore from {top / 2:g} up")


def _has_lines(band: NDArray[Any]) -> bool:
    """Whether one shade, farther than `EDGE` from full brightness, fills over `SHADED` of the mask."""
    between, full = _shades(band)
    near = ndimage.binary_dilation(full, np.ones((2 * EDGE + 1, 2 * EDGE + 1)))
    far = band[between & ~near]
    most = np.unique(far, return_counts=True)[1].max(initial=0)
    return bool(most > SHADED * np.count_nonzero(band) and most >= ALIKE * far.size)


def _shades(band: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels of intermediate brightness, and of full brightness."""
    bright, counts = np.unique(band[band > band.max() / 2], return_counts=True)
    top = float(bright[counts.argmax()])  # nominal: JPEG and resampling overshoot it
    return (band > 0.05 * top) & (band < 0.95 * top), band >= 0.95 * top


def _shaded(band: NDArray[Any]) -> bool:
    """Whether areas (3 x 3 px or more) of one intermediate shade fill over `SHADED` of the mask."""
    marked, (between, _) = np.count_nonzero(band), _shades(band)
    alike = ndimage.maximum_filter(band, 3) == ndimage.minimum_filter(band, 3)
    areas = ndimage.binary_dilation(alike & between, np.ones((3, 3)))
    return bool(np.count_nonzero(areas) > SHADED * marked)


def _painted(bands: NDArray[Any], painted: NDArray[np.bool_]) -> Label:
    """Pores painted on transparency; if dark and bright are painted, the bright ones."""
    bright = bands.max(axis=0) >= 128
    if (bright & painted).any() and (~bright & painted).any():
        return Label(
            (bright & painted).astype(np.uint8), "transparent and dark matrix, bright pore"
        )
    return Label(painted.astype(np.uint8), "transparent matrix, painted pore")


def _one_colour(colours: NDArray[Any], path: Path) -> NDArray[Any]:
    """Brightness (H, W) of a mask (3, H, W) in black and one colour; more are an error."""
    brightness = colours[:3].max(axis=0)
    painted = colours[:3, brightness > brightness.max() / 2]
    if not painted.size or brightness.max() == 0:
        return brightness
    hue = np.rint(2.0 * painted / painted.max(axis=0))  # red is 2 0 0, at any brightness
    share = np.unique(hue, axis=1, return_counts=True)[1]
    if (many := int((share > 0.01 * painted.shape[1]).sum())) > 1:
        found, counts = np.unique(painted.reshape(3, -1), axis=1, return_counts=True)
        shown = [
            f"#{r:02x}{g:02x}{b:02x}" for r, g, b in found.T[counts.argsort()[::-1]][:4].tolist()
        ]
        raise PoresegError(
            f"{path}: {many} colours besides black ({', '.join(shown)}); wanted one, for pore. Export "
            "the pores alone, or name each colour in rasterise.pore, .matrix and .unknown in params.yaml"
        )
    return brightness
