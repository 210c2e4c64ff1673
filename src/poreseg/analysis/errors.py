"""Errors: a map of wrong pixels for each image, and a contact sheet of the worst tiles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from poreseg.classes import PORE, UNKNOWN
from poreseg.files import whole
from poreseg.images.raster import open_raster
from poreseg.images.windows import Window, grid
from poreseg.metrics import Counts, count
from poreseg.prediction.segment import paint

FALSE = (255, 140, 0)  # orange: false pore
MISSED = (230, 0, 90)  # crimson: missed pore
GRAY = (128, 128, 128)  # unknown, not scored
SHOWN = 12  # tiles on the sheet
SHOWN_OF_ONE = 3  # tiles per image, or the largest image would fill the sheet
CAPTION_PX = 22
TILE_PX = 512  # longest side of a tile as shown


def errors(
    rasters: Sequence[Path | str],
    masks: Sequence[Path | str],
    labels: Sequence[Path | str],
    maps: Sequence[Path | str],
    sheet: Path | str,
    *,
    split: Sequence[Sequence[Any]],
    size: int,
) -> None:
    """Write the error maps and the contact sheet.

    Parameters
    ----------
    rasters, masks, labels
        Of the labelled images, in one order.
    maps
        PNG to write for each of them, see `differences`.
    sheet
        PNG to write: the tiles of validation and test images with the most wrong pixels,
        the worst first; each as image, label and differences.
    split
        Rows of image, role and fold.
    size
        Side of a tile in px.
    """
    roles = {image: role for image, role, _ in split}
    candidates = []
    for raster, mask, label, out in zip(rasters, masks, labels, maps, strict=True):
        with open_raster(raster) as source, open_raster(mask) as found, open_raster(label) as truth:
            image, pore, known = source.shown(), found.band() == PORE, truth.band()
        drawn = differences(image, pore, known)
        with whole(out) as temporary:
            Image.fromarray(drawn).save(temporary)
        name = Path(raster).stem
        if roles[name] != "train":
            candidates += _worst(f"{name} ({roles[name]})", size, image, pore, known, drawn)
    candidates.sort(key=lambda tile: -tile[0])
    with whole(sheet) as temporary:
        told = "no wrong pixel in images that were not learned from"
        if all(role == "train" for role in roles.values()):
            told = "no image was held out: all were learned from"
        _sheet([picture for _, picture in candidates[:SHOWN]], told).save(temporary)


def labelled(image: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (H, W, 3) with labelled pores in blue and unknown pixels in gray."""
    return paint(paint(image, label == PORE), label == UNKNOWN, GRAY)


def differences(
    image: NDArray[np.uint8], pore: NDArray[np.bool_], label: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The image (H, W, 3), true pore blue, false orange, missed crimson, unknown gray."""
    true = label == PORE
    done = paint(image, pore & true)
    done = paint(done, pore & (label != PORE) & (label != UNKNOWN), FALSE, 0.8)
    done = paint(done, ~pore & true, MISSED, 0.8)
    return paint(done, label == UNKNOWN, GRAY)


def _worst(
    title: str,
    size: int,
    image: NDArray[np.uint8],
    pore: NDArray[np.bool_],
    label: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
) -> list[tuple[int, NDArray[np.uint8]]]:
    """Up to `SHOWN_OF_ONE` worst tiles of an image: number of wrong pixels, and picture."""
    found = []
    for window in grid(pore.shape[0], pore.shape[1], size):
        part = window.slices
        counts = count(pore[part], label[part])
        if wrong := counts.false_pore + counts.missed_pore:
            found.append((wrong, part, _caption(title, window, counts)))
    found.sort(key=lambda entry: -entry[0])
    return [
        (wrong, _row(image[part], label[part], drawn[part], caption))
        for wrong, part, caption in found[:SHOWN_OF_ONE]
    ]


def _caption(title: str, window: Window, counts: Counts) -> str:
    score = "no pore in the label" if counts.iou is None else f"IoU {counts.iou:.2f}"
    return (f"{title}, row {window.row}, column {window.col}: {score}, "
            f"{counts.false_pore} px false, {counts.missed_pore} px missed")  # fmt: skip


def _row(
    image: NDArray[np.uint8], label: NDArray[np.uint8], drawn: NDArray[np.uint8], caption: str
) -> NDArray[np.uint8]:
    """Image, label and differences side by side under a caption, thinned to `TILE_PX`."""
    gap, every = ((0, 0), (0, 4), (0, 0)), -(-max(label.shape) // TILE_PX)
    pictures = [picture[::every, ::every] for picture in (image, labelled(image, label), drawn)]
    strip = np.hstack([np.pad(picture, gap, constant_values=255) for picture in pictures])
    line = Image.new("RGB", (strip.shape[1], CAPTION_PX), "white")
    font = ImageFont.load_default(12)
    ImageDraw.Draw(line).text((2, 4), caption, fill="black", font=font)
    return np.vstack([np.asarray(line), strip])


def _sheet(pictures: Sequence[NDArray[np.uint8]], or_else: str) -> Image.Image:
    """Pictures in two columns, or the text `or_else` if there are none."""
    if not pictures:
        sheet = Image.new("RGB", (400, CAPTION_PX), "white")
        ImageDraw.Draw(sheet).text((2, 4), or_else, fill="black")
        return sheet
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    sheet = Image.new("RGB", (2 * width, height * -(-len(pictures) // 2)), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % 2 * width, number // 2 * height))
    return sheet
