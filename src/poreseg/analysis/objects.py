"""Scores of outlines, single pores and their sizes, which pixel IoU does not show."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from skimage.measure import label as label_regions

from poreseg.classes import PORE, UNKNOWN
from poreseg.metrics import ratio
from poreseg.prediction.segment import without_specks

RIM = 2  # px, the width of an outline


def boundary_iou(predicted: NDArray[np.bool_], label: NDArray[np.uint8]) -> float | None:
    """Intersection over union of the pores' inner outlines, `RIM` px wide (Cheng 2021).

    `predicted` (H, W) against `label` (H, W) of 0, 1 and 255 unknown; where the image's border
    or unknown pixels cut a pore, it has no outline. None if neither has an outline.
    """
    known = label != UNKNOWN
    found, true = (_outline(mask, known) for mask in (predicted & known, label == PORE))
    return ratio(int((found & true).sum()), int((found | true).sum()))


def object_f1(
    predicted: NDArray[np.bool_], label: NDArray[np.uint8], min_area_px: int = 1
) -> float | None:
    """F1 of single pores: one is found if its IoU with a labelled pore is above 0.5.

    So no pore is found twice. Specks smaller than `min_area_px` are dropped from both masks, or
    those that segment removes would count as missed. None if neither mask has a pore.
    """
    found, true = (
        label_regions(without_specks(mask, min_area_px), connectivity=2)
        for mask in (predicted & (label != UNKNOWN), label == PORE)
    )
    both = (found > 0) & (true > 0)
    base = int(true.max()) + 1  # pairs as single numbers are counted ten times as fast
    pairs, shared = np.unique(found[both].astype(np.int64) * base + true[both], return_counts=True)
    areas = np.bincount(found.ravel())[pairs // base], np.bincount(true.ravel())[pairs % base]
    union = areas[0] + areas[1] - shared
    return ratio(2 * int((2 * shared > union).sum()), int(found.max() + true.max()))


def median_diameter(pore: NDArray[np.bool_], min_area_px: int, connectivity: int) -> float | None:
    """Area-weighted median equivalent diameter in px of pores (H, W); None without pores.

    As in porosity.csv, half of the pore area is in larger pores. Specks smaller than
    `min_area_px` are left out.
    """
    regions = label_regions(without_specks(pore, min_area_px), connectivity=connectivity)
    areas = pd.Series(np.bincount(regions.ravel())[1:])
    return weighted_median(np.sqrt(4 * areas / np.pi), areas)


def weighted_median(values: pd.Series, weights: pd.Series) -> float | None:
    """The value at which half of the weight is reached; None for no values.

    >>> weighted_median(pd.Series([1, 5, 3]), pd.Series([1, 10, 2]))
    5.0
    """
    if values.empty:
        return None
    order = values.sort_values().index
    reached = weights[order].cumsum() >= weights.sum() / 2
    return float(values[order][reached].iloc[0])


def _outline(mask: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = binary_erosion(mask | ~known, np.ones((3, 3), bool), iterations=RIM, border_value=1)
    return mask & ~inner
