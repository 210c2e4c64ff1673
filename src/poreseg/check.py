"""Check a study: how each image and its label are read, as a table row and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.segmentation import find_boundaries

from poreseg.classes import PORE, UNKNOWN
from poreseg.config import Params
from poreseg.errors import warn
from poreseg.files import whole
from poreseg.images import scale
from poreseg.images.ingest import HIDDEN, look
from poreseg.images.raster import to_rgb8
from poreseg.images.registry import open_image
from poreseg.images.source import Choice
from poreseg.labels.label import Classes, Grid
from poreseg.labels.rasterise import class_of, on_specimen, read_label
from poreseg.labels.registry import reader_of
from poreseg.study import Sample

CELL = 420  # px, width of a cell of the contact sheet
MOSTLY = 0.6  # porosity above which to ask whether the label is inverted
PORE_LINE, UNKNOWN_LINE, FRAME_LINE = (255, 0, 160), (0, 220, 220), (255, 220, 0)


@dataclass(frozen=True)
class Checked:
    """One image and its label.

    `row` is for the terminal: name, size, scale, specimen, role and, with a label, reader,
    interpretation, pores, porosity; `frame` describes what is not specimen, if anything;
    `picture` is a cell of the contact sheet.
    """

    row: tuple[str, ...]
    frame: str
    picture: Image.Image


def check_sample(sample: Sample, params: Params) -> Checked:
    """Read an image and its label as a build would.

    Raises
    ------
    PoresegError
        One of them cannot be used.
    """
    reading = params.ingest
    with open_image(sample.image, Choice(sample.channel, sample.plane)) as source:
        view, frame, (black, white) = look(
            source, data_bar_px=sample.data_bar_px, **reading.model_dump()
        )
        size, size_from = scale.choose(source.scales, sample.pixel_size_um, str(source.path))
        grid = Grid.of(source, sample.image.name, sample.plane)
    row = [sample.name, f"{grid.width} x {grid.height}, {len(view.bands)} x {view.bands.dtype}",
           f"{size:.4g} ({size_from})" if size else "unknown", sample.specimen, sample.role]  # fmt: skip
    values = None
    if sample.labels:
        classes = Classes(**params.rasterise.model_dump())
        label = read_label(sample.labels, grid, classes)
        values = label.values[:: view.step, :: view.step]
        known = on_specimen(values, view.valid, sample.image.name)
        known = known[known != UNKNOWN]
        porosity = np.mean(known == PORE) if known.size else np.nan
        share = f"{100 * porosity:.1f} %" if known.size else "unknown"
        if not classes.sparse and MOSTLY < porosity < 1:
            warn(f"{sample.labels[0]}: {share} of it is pore ({label.understood}); is it inverted?")
        regions = ndimage.label(label.values == PORE, np.ones((3, 3)))[1]
        row += [_reader(sample), label.understood, str(regions), share]
    picture = outlined(to_rgb8(view.bands, black, white), values, view.valid)
    hidden = np.mean(~view.valid)
    beyond = str(frame) or (f"{100 * hidden:.3g} %, {HIDDEN}" if hidden else "")
    return Checked(tuple(row), beyond, _captioned(picture, sample, beyond))


def outlined(
    image: NDArray[np.uint8], label: NDArray[np.uint8] | None, valid: NDArray[np.bool_]
) -> Image.Image:
    """An image (H, W, 3) at the sheet's size: pores outlined in pink, unknown in cyan, the frame in yellow."""
    picture = Image.fromarray(image)
    picture.thumbnail((CELL - 12, CELL - 12))
    done = np.array(picture)

    def mark(area: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
        small = Image.fromarray(area).resize(picture.size, Image.Resampling.NEAREST)
        done[find_boundaries(np.array(small), mode="inner")] = colour

    if label is not None:
        mark((label == UNKNOWN) & valid, UNKNOWN_LINE)
        mark(label == PORE, PORE_LINE)
    mark(~valid, FRAME_LINE)
    return Image.fromarray(done)


def contact_sheet(pictures: Sequence[Image.Image], path: Path) -> None:
    """Write all pictures as one PNG, in the order given."""
    columns = min(4, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    with whole(path) as temporary:
        sheet.save(temporary)


def _reader(sample: Sample) -> str:
    if class_of(sample.labels[0], sample.image.name) is not None:
        return f"{len(sample.labels)} masks of a class each"
    name: str = reader_of(sample.labels[0]).NAME
    return name


def _captioned(picture: Image.Image, sample: Sample, frame: str) -> Image.Image:
    """A cell of the sheet: the picture under its name, role and frame."""
    cell = Image.new("RGB", (CELL, CELL + 24), "white")
    cell.paste(picture, (6, 24))
    text = f"{sample.name}  {sample.role}" + (f"  {frame}" if frame else "")
    ImageDraw.Draw(cell).text((6, 6), text, fill="black")
    return cell
