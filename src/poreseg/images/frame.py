"""The frame of an image: the data bar of an SEM and the borders of a scan show no specimen."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image, remove_small_holes

from poreseg.images.source import Picture, Source
from poreseg.images.windows import Window

SIDE = 2048  # px, the most of an overview; smaller images are seen whole
FLAT = 0.5  # of a bar's row is its ground, where no text crosses it
STEP = 0.3  # by which the share of the ground jumps where the bar begins
NEAR = 5  # gray levels of 255 that JPEG moves a flat ground by
ONE_INK = 0.35  # of what is not ground in a bar is of the writing's colour, soft edges aside
BAR = (0.015, 0.25)  # of the image's height
TEXT = (0.005, 0.5)  # of a bar's pixels are writing; a strip without is a border
CORNERS = 3  # of one value, so that a pore in one corner is no border
SHARE = (0.02, 0.6)  # of the image lies outside a field of view; more is not masked unasked
CONVEX = 0.97  # of its hull, a field of view; what pores at the border leave is not so
OPENING = 0.01  # of the overview's side: narrower than this, what is open to the outside is a pore
SMOOTH = 2.0  # px, over which air is looked at, whose noise hides its level
NOISE = 6.0  # deviations that smoothed air stays below
FAINT = 0.15  # of the way to the specimen that air may be bright, whatever its noise
SPECK = 60  # px, at most, of what is bright in the air: a hot pixel, smoothed
PATCH = 0.04  # of the side, from each corner: air, where there is any
SPAN = 0.8  # of height and width, at least, that a specimen in air fills
RISE = 0.5  # of the way from air to specimen that an edge makes at once, and a vignette does not


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
        rows, cols = window.every(step)
        bands.append(picture.bands[:, rows, cols].copy())  # a view would keep the strip
        valid.append(picture.valid[rows, cols].copy())
    return Overview(np.concatenate(bands, axis=1), np.concatenate(valid, axis=0), step)


@dataclass(frozen=True)
class Frame:
    """What of an image is no specimen, and how that was found.

    `bar_rows` at the bottom are a data bar; `edges` are uniform borders in px (top, bottom,
    left, right); `outside` is the overview's part that lies outside a round or turned field of
    view, where pixels of the value `fill` show nothing, or in air (no `fill`), where none does.
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
        if self.outside is not None:
            near = self.outside[np.ix_(rows // self.step, cols // self.step)]
            if self.fill is not None:
                near &= (bands == self.fill[:, None, None]).all(axis=0)
            inside &= ~near
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
            what = "air around the specimen" if self.fill is None else "outside the field of view"
            found.append(f"{self.outside.mean():.0%} {what}")
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
        "auto" finds uniform borders, what lies outside a round field of view and the air around
        a specimen; or "none".
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
    told = not view.valid[:kept].all()  # what is no specimen, by the file itself
    if outside is not None and outside[inner].mean() >= SHARE[0] / 2:  # more than straight edges
        below = (0, len(view.valid) - kept), (0, 0)
        air = None if told else _air(bands, outside)
        if air is not None:
            return Frame(rows, bar_from, outside=np.pad(air, below), step=view.step)
        fill = bands[:, 0, 0] if outside[0, 0] else bands[:, -1, -1]
        near = np.pad(ndimage.binary_dilation(outside), below)
        return Frame(rows, bar_from, outside=near, fill=fill, step=view.step)
    air = None if told else _air(bands[:, *inner], np.zeros(view.valid.shape, bool)[inner])
    if air is not None:
        air = np.pad(air, ((top, len(view.valid) - kept + bottom), (left, right)))
    if rows and bottom:  # a line between specimen and bar is the bar's
        rows, bottom = rows + bottom * view.step, 0
    edges = (top * view.step, bottom * view.step, left * view.step, right * view.step)
    return Frame(rows, bar_from, edges, air, step=view.step)


def _gray(bands: NDArray[Any]) -> NDArray[np.float32]:
    """Brightness (h, w) of bands (C, h, w)."""
    return np.asarray(np.nan_to_num(bands.astype(np.float32)).mean(axis=0))


def _gray8(view: Overview) -> NDArray[np.uint8]:
    """Brightness (h, w), coarse enough that a flat ground is one value."""
    gray = _gray(view.bands)
    low, high = gray.min(), gray.max()
    return ((gray - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def _bar(gray: NDArray[np.uint8]) -> int:
    """Rows of a data bar at the bottom of an image, 0 where there is none.

    A bar is drawn, not photographed: its pixels are of two values, a ground and writing,
    it spans the image's width, and it begins at one row, where the share of the ground jumps.
    """
    height = len(gray)
    least, most = max(4, round(BAR[0] * height)), round(BAR[1] * height)
    lines = np.ptp(gray, axis=1) <= 2  # drawn between or around the fields
    inner = gray[height - most :][~lines[height - most :]]
    if len(inner) < least:
        return 0
    ground = np.bincount(inner[-least:].ravel(), minlength=256).argmax()
    share = (np.abs(gray.astype(np.int16) - ground) <= NEAR).mean(axis=1)  # of each row
    flat = np.pad((lines | (share >= FLAT))[::-1], 4, constant_values=True)
    rows = int(np.argmin(np.append(ndimage.binary_closing(flat, np.ones(7))[4:-4], False)))
    while rows and not (lines | (share >= FLAT))[height - rows]:
        rows -= 1
    if not least <= rows <= most:
        return 0
    bar = gray[height - rows :][~lines[height - rows :]]
    if not len(bar):  # a border
        return 0
    counts = np.bincount(bar.ravel(), minlength=256)
    on_ground = counts[max(0, ground - NEAR) : ground + NEAR + 1].sum() / bar.size
    counts[max(0, ground - 12) : ground + 13] = 0
    ink = counts.argmax()
    one_ink = counts[max(0, ink - 12) : ink + 13].sum() >= ONE_INK * (1 - on_ground) * bar.size
    first = share[height - rows :][~lines[height - rows :]][:3].mean()
    jumps = first - share[max(0, height - rows - 3) : height - rows].mean() >= STEP
    return rows if jumps and one_ink and TEXT[0] <= 1 - on_ground <= TEXT[1] else 0


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
    left_over = (bands.shape[1] - runs[0] - runs[1]) * (bands.shape[2] - runs[2] - runs[3])
    if left_over < (1 - SHARE[1]) * bands[0].size:
        return 0, 0, 0, 0  # a dark image with something small in it
    return runs[0], runs[1], runs[2], runs[3]


def _run(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(np.argmin(flags))


def _outside(bands: NDArray[Any]) -> NDArray[np.bool_] | None:
    """What lies outside a round or turned field of view: one value that fills the corners."""
    corners = [bands[:, row, col] for row in (0, -1) for col in (0, -1)]
    fill = max(corners, key=lambda value: sum(bool((value == c).all()) for c in corners))
    return _around((bands == fill[:, None, None]).all(axis=0))


def _air(bands: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """What lies outside a specimen that a scan shows whole, as a core: dark, and nothing but noise.

    What lies `outside` a round field of view is counted with it, where there is air inside too.
    """
    side = max(8, round(PATCH * max(bands.shape[1:])))
    if min(bands.shape[1:]) < 8 * side:  # no corners to speak of
        return None
    gray = ndimage.gaussian_filter(_gray(bands), SMOOTH)
    if outside.any():
        away = ndimage.distance_transform_edt(~outside)
        blurred = away <= 3 * SMOOTH
        places = (away <= side) & _corners(gray.shape, max(gray.shape))
    else:
        blurred, places = outside, _corners(gray.shape, side)
    patches = [patch for place in places if (patch := gray[place & ~blurred]).size]
    if len(patches) < CORNERS:
        return None
    darkest = np.concatenate(sorted(patches, key=np.median)[:CORNERS])
    level = np.median(darkest)
    noise = 1.5 * np.median(np.abs(darkest - level))  # whatever a specimen adds that reaches there
    gray[blurred] = level
    margin = max(NOISE * noise, FAINT * (np.median(gray[~blurred]) - level))
    found = _around(remove_small_holes(gray <= level + margin, max_size=SPECK))
    if found is None:
        return None
    half = level + RISE * (np.median(gray[~found]) - level)  # where the specimen's edge is
    grown = ndimage.binary_dilation(found, iterations=round(3 * SMOOTH), mask=gray < half)
    air = ndimage.binary_dilation(grown, iterations=2)  # what is half air, half specimen is no pore
    fills = all(_span(~air, axis) >= SPAN * _span(~outside, axis) for axis in (0, 1))
    enough = (air & ~outside).mean() >= SHARE[0]
    return air if fills and enough and _has_sharp_edge(gray, found, air) else None


def _corners(shape: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    """The four corners (4, h, w) of a picture, squares of a side, or its quarters where that is long."""
    near = [np.arange(length) < min(side, length // 2) for length in shape]
    rows, cols = ([one, one[::-1]] for one in near)
    return np.stack([np.outer(row, col) for row in rows for col in cols])


def _span(area: NDArray[np.bool_], axis: int) -> int:
    """How far an area (h, w) reaches along an axis."""
    return int(np.ptp(np.flatnonzero(area.any(axis=1 - axis)))) + 1


def _has_sharp_edge(
    gray: NDArray[np.float32], found: NDArray[np.bool_], air: NDArray[np.bool_]
) -> bool:
    """Whether a picture (h, w) rises at once from what was found dark to what lies beyond the air."""
    rim = ndimage.binary_dilation(air, iterations=2) & ~air
    shore = found & ~ndimage.binary_erosion(found, iterations=4, border_value=1)
    rise = np.median(gray[rim]) - np.median(gray[shore])
    return bool(rise >= RISE * (np.median(gray[~found]) - np.median(gray[found])))


def _around(same: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Of pixels that are alike, those that fill the corners around a field of view.

    Pores that are open to it are narrower than the opening and stay; a pore in a corner does
    not reach three of them.
    """
    corners = same[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.sum() < CORNERS or same.mean() < SHARE[0]:  # nor can a part of it be more
        return None
    radius = max(2, round(OPENING * max(same.shape)))
    depth = ndimage.distance_transform_edt(np.pad(same, radius, mode="edge"))
    opened = (
        ndimage.distance_transform_edt(depth <= radius)[radius:-radius, radius:-radius] <= radius
    )
    parts, _ = ndimage.label(opened & same)
    at_corners = [int(parts[row, col]) for row in (0, -1) for col in (0, -1)]
    found = np.isin(parts, [part for part in at_corners if part])
    enough = sum(map(bool, at_corners)) >= CORNERS and SHARE[0] <= found.mean() <= SHARE[1]
    return found if enough and _is_convex(~found) else None


def _is_convex(area: NDArray[np.bool_]) -> bool:
    """Whether an area has the shape of a field of view, round or straight."""
    small = area[:: max(1, len(area) // 512), :: max(1, len(area) // 512)]
    return bool(small.sum() >= CONVEX * convex_hull_image(small).sum())
