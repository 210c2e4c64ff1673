"""The frame of an image shows no specimen: SEM data bar, scan borders, air, outside of the view."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from poreseg.errors import warn
from poreseg.images.around import (
    SHARE,
    air_around,
    brightness,
    filled_around,
    outside_view,
    soft_rim,
)
from poreseg.images.source import Picture, Source
from poreseg.images.windows import Window

SIDE = 2048  # px, longest side of an overview; smaller images are kept whole
FLAT = 0.5  # of a bar's row, at least, is background unless text crosses it
STEP = 0.3  # rise of the rows' background fraction where the bar begins
NEAR = 5  # gray levels of 255 by which JPEG alters a flat background
ONE_INK = 0.1  # of a bar's other pixels, at least, have the full text colour
INK = 97  # percentile of distance to the background: the full text colour
BLOCK = 0.2  # of a bar's column, at least, is background unless a logo or block covers it
BLANK = 0.97  # of a row between, above or below lines of text, at least, is background
MARGINS = 0.1  # of a bar's rows, at least, are blank
SOFT = 12  # gray levels of 255, tolerance around background and text colour
BAR = (0.015, 0.25)  # of the image's height, least and most
TEXT = (0.005, 0.5)  # of a bar's pixels, least and most, are text; a strip without is a border


@dataclass(frozen=True)
class Overview:
    """Every `step`th pixel of an image: `bands` (C, h, w) and `valid` (h, w)."""

    bands: NDArray[Any]
    valid: NDArray[np.bool_]
    step: int

    @property
    def values(self) -> NDArray[Any]:
        """The valid values of all bands, flattened."""
        return self.bands[:, self.valid].ravel()


def overview(source: Source) -> Overview:
    """Subsample an image, strip by strip."""
    step = -(-max(source.height, source.width) // SIDE)
    bands, valid = [], []
    for window, picture in source.strips():
        rows, cols = window.every(step)
        bands.append(picture.bands[:, rows, cols].copy())  # a view would keep the strip
        valid.append(picture.valid[rows, cols].copy())
    return Overview(np.concatenate(bands, axis=1), np.concatenate(valid, axis=0), step)


@dataclass(frozen=True)
class Frame:
    """The parts of an image that show no specimen, and how they were found.

    `bar_rows` is the height of the data bar at the bottom, `edges` the widths of uniform borders
    (top, bottom, left, right), in px of the image. Masks of the overview: `outside` a round or
    rotated field of view, of which only pixels of the value `fill` are excluded; `rim`, its soft
    edge; `air` around a specimen.
    """

    bar_rows: int = 0
    bar_from: str = ""
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)
    outside: NDArray[np.bool_] | None = None
    fill: NDArray[Any] | None = None
    rim: NDArray[np.bool_] | None = None
    air: NDArray[np.bool_] | None = None
    step: int = 1

    def __bool__(self) -> bool:
        return bool(self.bar_rows or any(self.edges) or self._around is not None)

    @property
    def _around(self) -> NDArray[np.bool_] | None:
        if self.air is not None:
            return self.air  # includes what is `outside`
        if self.outside is None or self.rim is None:
            return self.outside
        return self.outside | self.rim

    def shows(
        self, rows: NDArray[np.intp], cols: NDArray[np.intp], bands: NDArray[Any], source: Source
    ) -> NDArray[np.bool_]:
        """Mask (H, W) of pixels (C, H, W) in rows (H,), columns (W,) that are not in the frame."""
        top, bottom, left, right = self.edges
        bottom = max(bottom, self.bar_rows)
        inside = np.outer(
            (rows >= top) & (rows < source.height - bottom),
            (cols >= left) & (cols < source.width - right),
        )
        here = np.ix_(rows // self.step, cols // self.step)
        if self.outside is not None and self.fill is not None:
            inside &= ~(self.outside[here] & (bands == self.fill[:, None, None]).all(axis=0))
        for part in (self.rim, self.air):
            if part is not None:
                inside &= ~part[here]
        return inside

    def within(self, window: Window, picture: Picture, source: Source) -> NDArray[np.bool_]:
        """Specimen mask (H, W) of a window: valid pixels that are not in the frame."""
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        return picture.valid & self.shows(rows, cols, picture.bands, source)

    def out_of(self, view: Overview, source: Source) -> Overview:
        """The overview, with `valid` excluding the frame."""
        height, width = view.valid.shape
        rows, cols = np.arange(height) * view.step, np.arange(width) * view.step
        return replace(view, valid=view.valid & self.shows(rows, cols, view.bands, source))

    def __str__(self) -> str:
        found = []
        if self.bar_rows:
            found.append(f"data bar of {self.bar_rows} rows ({self.bar_from})")
        if any(self.edges):
            sides = zip(("top", "bottom", "left", "right"), self.edges, strict=True)
            found.append("border of " + ", ".join(f"{n} px {side}" for side, n in sides if n))
        if self._around is not None:
            what = "outside the field of view" if self.air is None else "air around the specimen"
            found.append(f"{100 * self._around.mean():.0f} % {what}")
        return "; ".join(found)


def find_frame(
    view: Overview, source: Source, *, data_bar: str, border: str, bar_rows: int | None
) -> Frame:
    """Find an image's frame.

    Parameters
    ----------
    view
        Its overview.
    data_bar
        "auto" takes it from the maker's metadata, else the pixels; "none" assumes none.
    border
        "auto" finds uniform borders, the outside of a round field of view and the air around a
        specimen; "none" finds none.
    bar_rows
        Height of the data bar in px from samples.csv; overrides `data_bar`.
    """
    rows, bar_from = 0, ""
    if bar_rows is not None:
        rows, bar_from = bar_rows, "samples.csv or --data-bar-px"
    elif data_bar == "auto" and source.bar_rows is not None:
        rows, bar_from = source.bar_rows, "maker's metadata"
    elif data_bar == "auto" and (seen := _bar(_gray8(view))):
        rows, bar_from = min(seen * view.step, source.height), "seen in the pixels"
    if border == "none":
        return Frame(rows, bar_from)
    kept = len(view.valid) - -(-rows // view.step)
    bands = view.bands[:, :kept]
    (top, bottom, left, right), outside = _edges(bands), outside_view(bands)
    inner = slice(top, kept - bottom), slice(left, bands.shape[2] - right)
    if outside is not None and outside[inner].mean() >= SHARE[0] / 2:  # not just straight edges
        top = bottom = left = right = 0
    elif top or bottom or left or right:
        bands = bands[:, *inner]
        outside = outside_view(bands)
    around = (top, len(view.valid) - kept + bottom), (left, right)
    told = (~view.valid[:kept]).mean() >= SHARE[0]  # marked by the file; fewer may be dead pixels
    air = None if told else air_around(bands, np.zeros(bands[0].shape, bool) if outside is None else outside)  # fmt: skip
    if not told and outside is None and air is None and (share := filled_around(bands)) >= SHARE[0]:
        warn(f"{source.path}: {100 * share:.0f} % of it is one value that reaches three corners, and counts as specimen; if "
             "it shows none, make it NaN or nodata, or crop the image (ingest.border: none counts it without this warning)")  # fmt: skip
    fill = rim = None
    if outside is not None:
        fill = bands[:, 0, 0] if outside[0, 0] else bands[:, -1, -1]
        if air is None:  # else it covers the rim
            rim = np.pad(soft_rim(bands, outside), around)
        outside = np.pad(ndimage.binary_dilation(outside), around)
    if rows and bottom:  # a uniform strip above a bar belongs to it
        rows, bottom = rows + bottom * view.step, 0
    edges = (top * view.step, bottom * view.step, left * view.step, right * view.step)
    air = None if air is None else np.pad(air, around)
    return Frame(rows, bar_from, edges, outside, fill, rim, air, view.step)


def _gray8(view: Overview) -> NDArray[np.uint8]:
    """Brightness (h, w), 0 to 255: a flat background is one value."""
    gray = brightness(view.bands)
    low, high = gray.min(), gray.max()
    return ((gray - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def _bar(gray: NDArray[np.uint8]) -> int:
    """Height of the data bar at the bottom of an image, 0 without one.

    A bar is synthetic: a flat background with lines of text. It spans the image's width and
    begins at one row, where the background fraction jumps.
    """
    height = len(gray)
    least, most = max(4, round(BAR[0] * height)), round(BAR[1] * height)
    lines = np.ptp(gray, axis=1) <= 2  # ruled lines around fields
    inner = gray[height - most :][~lines[height - most :]]
    if len(inner) < least:
        return 0
    ground = np.bincount(inner[-least:].ravel(), minlength=256).argmax()
    away = gray.astype(np.int16) - ground
    on_ground = np.abs(away) <= NEAR
    share = on_ground.mean(axis=1)  # of each row
    flat = np.pad((lines | (share >= FLAT))[::-1], 4, constant_values=True)
    rows = int(np.argmin(np.append(ndimage.binary_closing(flat, np.ones(7))[4:-4], False)))
    while rows and not (lines | (share >= FLAT))[height - rows]:
        rows -= 1
    if not least <= rows <= most:
        return 0
    away, on_ground, fields = (part[height - rows :] for part in (away, on_ground, ~lines))
    if not fields.any():  # a border
        return 0
    writing = 1 - on_ground[fields].mean()
    beside = on_ground[:, on_ground.mean(axis=0) >= BLOCK]
    in_lines = (beside.mean(axis=1) >= BLANK).mean() >= MARGINS if beside.size else False
    first = share[height - rows :][fields][:3].mean()
    jumps = first - share[max(0, height - rows - 3) : height - rows].mean() >= STEP
    written = TEXT[0] <= writing <= TEXT[1] and in_lines and _ink(away[fields]) >= ONE_INK
    return rows if jumps and written else 0


def _ink(away: NDArray[np.int16]) -> float:
    """Fraction of a bar's non-background pixels that have the text's full colour.

    Antialiased edges lie between the two colours and make up most of small letters; nothing lies
    beyond. In a specimen, few pixels reach the brightest or darkest value.
    """
    other = away[np.abs(away) > SOFT]
    side = other[(other > 0) == (np.median(other) > 0)] if len(other) else other
    if not len(side):
        return 0.0
    full = np.percentile(np.abs(side), INK)
    return float((np.abs(side) >= full - SOFT).sum() / len(other))


def _edges(bands: NDArray[Any]) -> tuple[int, int, int, int]:
    """Widths in px of borders of one value: top, bottom, left, right."""
    same_rows = (
        (bands == bands[:, :1, :1]).all(axis=(0, 2)),
        (bands == bands[:, -1:, :1]).all(axis=(0, 2)),
    )
    same_cols = (
        (bands == bands[:, :1, :1]).all(axis=(0, 1)),
        (bands == bands[:, :1, -1:]).all(axis=(0, 1)),
    )
    runs = [
        _run(same_rows[0]),
        _run(same_rows[1][::-1]),
        _run(same_cols[0]),
        _run(same_cols[1][::-1]),
    ]
    left_over = (bands.shape[1] - runs[0] - runs[1]) * (bands.shape[2] - runs[2] - runs[3])
    if left_over < (1 - SHARE[1]) * bands[0].size:
        return 0, 0, 0, 0  # a dark image with something small in it
    return runs[0], runs[1], runs[2], runs[3]


def _run(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(np.argmin(flags))
