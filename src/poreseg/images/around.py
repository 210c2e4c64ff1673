"""What lies around a specimen in its image: outside a field of view, or air."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image, remove_small_holes

CORNERS = 3  # of one value, so that a pore in one corner is no border
SHARE = (0.02, 0.6)  # of the image lies outside a field of view; more is not masked unasked
CONVEX = 0.97  # of its hull, a field of view; what pores at the border leave is not so
OPENING = 0.01  # of the overview's side: narrower than this, what is open to the outside is a pore
SMOOTH = 2.0  # px, over which air is looked at, whose noise hides its level
NOISE = 6.0  # deviations that smoothed air stays below
FAINT = 0.15  # of the way to the specimen that air may be bright, whatever its noise
SPECK = 60  # px, at most, of what is bright in the air: a hot pixel, smoothed
PATCH = 0.04  # of the side, from each corner: air, where there is any
ONE_PIECE = 0.9  # of what one value surrounds: a specimen; in a matrix cut off at white, pores
RIM = 0.08  # of the side, the widest soft edge of a field of view
SPAN = 0.8  # of the shorter side, at least, that a specimen in air spans each way
RISE = 0.5  # of the way from air to specimen that an edge makes at once, and a vignette does not


def brightness(bands: NDArray[Any]) -> NDArray[np.float32]:
    """Brightness (h, w) of bands (C, h, w)."""
    return np.asarray(np.nan_to_num(bands.astype(np.float32)).mean(axis=0))


def outside_view(bands: NDArray[Any]) -> NDArray[np.bool_] | None:
    """What lies outside a round or turned field of view: one value that fills the corners."""
    return _around(_like_corners(bands))


def soft_rim(bands: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a soft edge adds to the outside of a field of view, up to where it is half as bright as the specimen.

    It darkens what is brightest along it too, which pores that are cut by a sharp edge do not. Nothing where it is
    sharp, and where it is not over after `RIM` of the side, as of a vignette.
    """
    gray = brightness(bands)
    light = np.abs(gray - gray[outside][0])
    rings = np.floor(ndimage.distance_transform_edt(~outside)).astype(int)  # 0 outside, 1 along it
    within = range(1, 1 + max(1, round(RIM * max(outside.shape))))
    seen = ndimage.labeled_comprehension(light, rings, within, _brightest, float, 0.0)
    whole = _brightest(light[~outside])
    bright = np.flatnonzero(seen >= RISE * whole)
    wide = bright[0] if len(bright) and seen[0] < FAINT * whole else 0
    return (rings >= 1) & (rings <= wide)


def _brightest(light: NDArray[np.float32]) -> float:
    return float(np.percentile(light, 90))


def filled_around(bands: NDArray[Any]) -> float:
    """Share of a picture that one value fills from three of its corners on, around one piece; else 0."""
    filled, corners = _at_corners(_like_corners(bands))
    if corners < CORNERS or filled.all():
        return 0.0
    sizes = np.bincount(ndimage.label(~filled)[0][~filled])
    return float(filled.mean()) if sizes.max() >= ONE_PIECE * sizes.sum() else 0.0


def _like_corners(bands: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a picture has the value that most of its corners have."""
    corners = [bands[:, row, col] for row in (0, -1) for col in (0, -1)]
    fill = max(corners, key=lambda value: sum(bool((value == c).all()) for c in corners))
    return np.asarray((bands == fill[:, None, None]).all(axis=0))


def air_around(bands: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """What lies outside a specimen that a scan shows whole, as a core: dark, and nothing but noise.

    What lies `outside` a round field of view is counted with it, where there is air inside too.
    """
    side = max(8, round(PATCH * max(bands.shape[1:])))
    if min(bands.shape[1:]) < 8 * side:  # no corners to speak of
        return None
    gray = ndimage.gaussian_filter(brightness(bands), SMOOTH)
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
    spans, whole = ([np.ptp(np.flatnonzero(area.any(axis=axis))) for axis in (0, 1)] for area in (~air, ~outside))  # fmt: skip
    fills = min(spans) >= SPAN * min(whole)  # a round specimen is as wide as the shorter side
    enough = (air & ~outside).mean() >= SHARE[0]
    return air if fills and enough and _has_sharp_edge(gray, found, air) else None


def _corners(shape: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    """The four corners (4, h, w) of a picture, squares of a side, or its quarters where that is long."""
    near = [np.arange(length) < min(side, length // 2) for length in shape]
    rows, cols = ([one, one[::-1]] for one in near)
    return np.stack([np.outer(row, col) for row in rows for col in cols])


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
    found, reached = _at_corners(opened & same)
    enough = reached >= CORNERS and SHARE[0] <= found.mean() <= SHARE[1]
    return found if enough and _is_convex(~found) else None


def _at_corners(same: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """What hangs together with corners, and with how many of the four."""
    parts, _ = ndimage.label(same)
    at_corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    at_corners = at_corners[at_corners > 0]
    return np.isin(parts, at_corners), len(at_corners)


def _is_convex(area: NDArray[np.bool_]) -> bool:
    """Whether an area has the shape of a field of view, round or straight."""
    small = area[:: max(1, len(area) // 512), :: max(1, len(area) // 512)]
    return bool(small.sum() >= CONVEX * convex_hull_image(small).sum())
