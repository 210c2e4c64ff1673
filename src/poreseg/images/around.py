"""What lies around a specimen in its image: outside a field of view, or air."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image, remove_small_holes

CORNERS = 3  # corners, at least, that touch the outside; a pore in a corner touches one
SHARE = (0.02, 0.6)  # of the image outside a field of view, least and most; else nothing is masked
CONVEX = 0.97  # of its convex hull that a field of view fills; less if pores cut its border
OPENING = 0.01  # of the longer side, radius of the opening that cuts inlets off the outside: pores
SMOOTH = 2.0  # px, sigma of the Gaussian filter against the noise of air
NOISE = 6.0  # robust standard deviations that smoothed air stays within
FAINT = 0.15  # of the contrast to the specimen that air may vary by, however low its noise
SPECK = 60  # px, at most, of a bright spot in the air: a smoothed hot pixel
PATCH = 0.04  # of the longer side, size of the corner patches that sample the air
ONE_PIECE = 0.9  # of what one value surrounds is a specimen; less: pores in a clipped matrix
RIM = 0.08  # of the longer side, widest soft edge of a field of view
SPAN = 0.8  # of the shorter side, at least, that a specimen in air spans in height and width
RISE = 0.5  # of the contrast of air and specimen that a sharp edge steps by; a vignette does not


def brightness(bands: NDArray[Any]) -> NDArray[np.float32]:
    """Brightness (h, w) of bands (C, h, w)."""
    return np.asarray(np.nan_to_num(bands.astype(np.float32)).mean(axis=0))


def outside_view(bands: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Mask (h, w) outside a round or rotated field of view, one value in the corners; or None."""
    return _around(_like_corners(bands))


def soft_rim(bands: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask (h, w) of a field of view's soft edge, up to where it is half as bright as the specimen.

    A soft edge lowers the 90th percentile of brightness along it; pores cut by a sharp edge do not.
    Empty if the edge is sharp, or still dark after `RIM` of the longer side, as in a vignette.
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
    """Fraction of an image that one value fills from 3 corners or more, around one piece; else 0."""
    filled, corners = _at_corners(_like_corners(bands))
    if corners < CORNERS or filled.all():
        return 0.0
    sizes = np.bincount(ndimage.label(~filled)[0][~filled])
    return float(filled.mean()) if sizes.max() >= ONE_PIECE * sizes.sum() else 0.0


def _like_corners(bands: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask (h, w) of the most frequent value of the corners."""
    corners = [bands[:, row, col] for row in (0, -1) for col in (0, -1)]
    fill = max(corners, key=lambda value: sum(bool((value == c).all()) for c in corners))
    return np.asarray((bands == fill[:, None, None]).all(axis=0))


def air_around(bands: NDArray[Any], outside: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Mask (h, w) of air around a whole specimen, such as a core: dark, only noise; or None.

    It includes `outside`, the outside of a round field of view; None without air inside the view.
    """
    side = max(8, round(PATCH * max(bands.shape[1:])))
    if min(bands.shape[1:]) < 8 * side:  # too narrow for corner patches
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
    noise = 1.5 * np.median(np.abs(darkest - level))  # robust to a specimen in a patch
    gray[blurred] = level
    margin = max(NOISE * noise, FAINT * (np.median(gray[~blurred]) - level))
    found = _around(remove_small_holes(gray <= level + margin, max_size=SPECK))
    if found is None:
        return None
    half = level + RISE * (np.median(gray[~found]) - level)  # gray at the specimen's edge
    grown = ndimage.binary_dilation(found, iterations=round(3 * SMOOTH), mask=gray < half)
    air = ndimage.binary_dilation(grown, iterations=2)  # mixed pixels at the edge are no pores
    spans, whole = ([np.ptp(np.flatnonzero(area.any(axis=axis))) for axis in (0, 1)] for area in (~air, ~outside))  # fmt: skip
    fills = min(spans) >= SPAN * min(whole)  # a round specimen spans only the shorter side
    enough = (air & ~outside).mean() >= SHARE[0]
    return air if fills and enough and _has_sharp_edge(gray, found, air) else None


def _corners(shape: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    """Masks (4, h, w) of the corners: squares of `side` px, or quarters of the image if smaller."""
    near = [np.arange(length) < min(side, length // 2) for length in shape]
    rows, cols = ([one, one[::-1]] for one in near)
    return np.stack([np.outer(row, col) for row in rows for col in cols])


def _has_sharp_edge(
    gray: NDArray[np.float32], found: NDArray[np.bool_], air: NDArray[np.bool_]
) -> bool:
    """Whether gray (h, w) steps by `RISE` of the contrast or more from `found` to beyond `air`."""
    rim = ndimage.binary_dilation(air, iterations=2) & ~air
    shore = found & ~ndimage.binary_erosion(found, iterations=4, border_value=1)
    rise = np.median(gray[rim]) - np.median(gray[shore])
    return bool(rise >= RISE * (np.median(gray[~found]) - np.median(gray[found])))


def _around(same: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Mask of those pixels in `same` that surround a field of view from its corners, or None.

    An opening excludes narrow pores that connect to the outside; a pore in a corner does not
    reach three corners.
    """
    corners = same[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.sum() < CORNERS or same.mean() < SHARE[0]:  # any part is even smaller
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
    """Parts connected to corners, and the number of those corners."""
    parts, _ = ndimage.label(same)
    at_corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    at_corners = at_corners[at_corners > 0]
    return np.isin(parts, at_corners), len(at_corners)


def _is_convex(area: NDArray[np.bool_]) -> bool:
    """Whether an area fills its convex hull, as a field of view does."""
    small = area[:: max(1, len(area) // 512), :: max(1, len(area) // 512)]
    return bool(small.sum() >= CONVEX * convex_hull_image(small).sum())
