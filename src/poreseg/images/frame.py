"""The frame of an image: the data bar of an SEM and the borders of a scan show no specimen."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from poreseg.images.source import Picture, Source
from poreseg.images.windows import Window

SIDE = 2048  # px, the most of an overview; smaller images are seen whole
FLAT = 0.35  # of a bar's row is its ground, even where text crosses it
PLAIN = 0.1  # of the rows above a bar is as its ground, at most
BAR = (0.015, 0.25)  # of the image's height
TEXT = 0.005  # of a bar's pixels, at least, are no ground; a strip without text is a border
CORNERS = 3  # of one value, so that a pore in one corner is no border
SHARE = 0.02  # of the image, at least, lies outside a round field of view
OPENING = 0.01  # of the overview's side: narrower than this, what is open to the outside is a pore


@dataclass(frozen=True)
class Overview:
    """Every `step`th pixel of an image: `bands` (C, h, w) and `valid` (h, w)."""

    bands: NDArray[Any]
    valid: NDArray[np.bool_]
    step: int

    @property
    def values(self) -> NDArray[Any]:
        """The valid values of all bands, in a row."""
        return self.bands[:, self.valid].ravel()


def overview(source: Source) -> Overview:
    """Look at a whole image, strip by strip."""
    step = -(-max(source.height, source.width) // SIDE)
    bands, valid = [], []
    for window, picture in source.strips():
        rows = slice(-window.row % step, None, step)  # on from the strip before
        bands.append(picture.bands[:, rows, ::step].copy())  # a view would keep the strip
        valid.append(picture.valid[rows, ::step].copy())
    return Overview(np.concatenate(bands, axis=1), np.concatenate(valid, axis=0), step)


@dataclass(frozen=True)
class Frame:
    """What of an image is no specimen, and how that was found.

    `bar_rows` at the bottom are a data bar; `edges` are uniform borders in px (top, bottom,
    left, right); `outside` is the overview's part, of value `fill`, that lies outside a round
    or turned field of view.
    """

    bar_rows: int = 0
    bar_from: str = ""
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)
    outside: NDArray[np.bool_] | None = None
    fill: NDArray[Any] | None = None
    step: int = 1

    def __bool__(self) -> bool:
        return bool(self.bar_rows or any(self.edges) or self.outside is not None)

    def shows(
        self, rows: NDArray[np.intp], cols: NDArray[np.intp], bands: NDArray[Any], source: Source
    ) -> NDArray[np.bool_]:
        """Where pixels (C, H, W) of the image's rows (H,) and columns (W,) show specimen, (H, W)."""
        top, bottom, left, right = self.edges
        bottom = max(bottom, self.bar_rows)
        inside = np.outer(
            (rows >= top) & (rows < source.height - bottom),
            (cols >= left) & (cols < source.width - right),
        )
        if self.outside is not None and self.fill is not None:
            near = self.outside[np.ix_(rows // self.step, cols // self.step)]
            inside &= ~(near & (bands == self.fill[:, None, None]).all(axis=0))
        return inside

    def within(self, window: Window, picture: Picture, source: Source) -> NDArray[np.bool_]:
        """Where a window of the image shows specimen, (H, W): valid pixels without the frame."""
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        return picture.valid & self.shows(rows, cols, picture.bands, source)

    def out_of(self, view: Overview, source: Source) -> Overview:
        """An overview whose `valid` leaves the frame out."""
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
        if self.outside is not None:
            found.append(f"{self.outside.mean():.0%} outside the field of view")
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
        "auto" takes the maker's metadata, else what the pixels show; "none" finds no bar.
    border
        "auto" finds uniform borders and what lies outside a round field of view; or "none".
    bar_rows
        Rows at the bottom that are a data bar, as samples.csv says; overrules both.
    """
    rows, bar_from = 0, ""
    if bar_rows is not None:
        rows, bar_from = bar_rows, "samples.csv"
    elif data_bar == "auto" and source.bar_rows is not None:
        rows, bar_from = source.bar_rows, "maker's metadata"
    elif data_bar == "auto" and (seen := _bar(_gray8(view))):
        rows, bar_from = min(seen * view.step, source.height), "seen in the pixels"
    if border == "none":
        return Frame(rows, bar_from)
    kept = len(view.valid) - -(-rows // view.step)
    bands = view.bands[:, :kept]
    top, bottom, left, right = _edges(bands)
    outside = _outside(bands)
    inner = slice(top, kept - bottom), slice(left, bands.shape[2] - right)
    if outside is not None and outside[inner].mean() >= SHARE / 2:  # more than straight edges
        fill = bands[:, 0, 0] if outside[0, 0] else bands[:, -1, -1]
        near = np.pad(ndimage.binary_dilation(outside), ((0, len(view.valid) - kept), (0, 0)))
        return Frame(rows, bar_from, outside=near, fill=fill, step=view.step)
    edges = (top, bottom and bottom + rows // view.step, left, right)
    return Frame(rows, bar_from, tuple(n * view.step for n in edges))  # type: ignore[arg-type]


def _gray8(view: Overview) -> NDArray[np.uint8]:
    """Brightness (h, w), coarse enough that a flat ground is one value."""
    gray = np.nan_to_num(view.bands.astype(np.float32)).mean(axis=0)
    low, high = gray.min(), gray.max()
    return ((gray - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def _bar(gray: NDArray[np.uint8]) -> int:
    """Rows of a data bar at the bottom of an image, 0 where there is none.

    A bar is drawn: each of its rows is to a good part of one and the same value, while the
    specimen above it has hardly any pixel of that value.
    """
    height = len(gray)
    least, most = max(4, round(BAR[0] * height)), round(BAR[1] * height)
    ground = np.bincount(gray[-least:].ravel(), minlength=256).argmax()
    share = (np.abs(gray.astype(np.int16) - ground) <= 2).mean(axis=1)  # of each row; JPEG blurs
    flat = share[::-1] >= FLAT
    gaps = ndimage.binary_closing(np.pad(flat, 4, mode="edge"), np.ones(7))[
        4:-4
    ]  # lines between fields
    rows = int(np.argmin(gaps)) if not gaps.all() else height
    while rows and not flat[rows - 1]:
        rows -= 1
    if not least <= rows <= most:
        return 0
    above, bar = share[max(0, height - 3 * rows) : height - rows], share[-rows:]
    return rows if above.mean() <= PLAIN and (1 - bar).mean() >= TEXT else 0


def _edges(bands: NDArray[Any]) -> tuple[int, int, int, int]:
    """Rows and columns of one value along each side: top, bottom, left, right."""
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
    if runs[0] == bands.shape[1]:
        return 0, 0, 0, 0  # all of one value: another error
    return runs[0], runs[1], runs[2], runs[3]


def _run(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(np.argmin(flags))


def _outside(bands: NDArray[Any]) -> NDArray[np.bool_] | None:
    """What lies outside a round or turned field of view: one value that fills the corners.

    Pores that are open to it are narrower than the opening and stay; a pore in a corner does
    not reach three of them.
    """
    corners = [bands[:, row, col] for row in (0, -1) for col in (0, -1)]
    fill = max(corners, key=lambda value: sum(bool((value == c).all()) for c in corners))
    same = (bands == fill[:, None, None]).all(axis=0)
    radius = max(2, round(OPENING * max(same.shape)))
    depth = ndimage.distance_transform_edt(np.pad(same, radius, mode="edge"))
    opened = (
        ndimage.distance_transform_edt(depth <= radius)[radius:-radius, radius:-radius] <= radius
    )
    parts, _ = ndimage.label(opened & same)
    at_corners = [int(parts[row, col]) for row in (0, -1) for col in (0, -1)]
    found = np.isin(parts, [part for part in at_corners if part])
    enough = sum(map(bool, at_corners)) >= CORNERS and found.mean() >= SHARE
    return found if enough else None
