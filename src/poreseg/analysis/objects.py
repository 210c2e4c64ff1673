"""Single pores: how well they, their outlines and their sizes are found, beside the pixels that IoU counts."""

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
    """Intersection over union of the pores' outlines, `RIM` px wide and inside (Cheng 2021).

    `predicted` (H, W) against `label` (H, W) of 0, 1 and 255 unknown; where a pore is cut by
    the image's border or by what is unknown there is no outline. None where there is none.
    """
    known = label != UNKNOWN
    found, true = (_outline(mask, known) for mask in (predicted & known, label == PORE))
    return ratio(int((found & true).sum()), int((found | true).sum()))


def object_f1(
    predicted: NDArray[np.bool_], label: NDArray[np.uint8], min_area_px: int = 1
) -> float | None:
    """F1 of the pores one by one: found are those that share more than half with one of the label's.

    Half of their union, so that no pore is found twice. Specks smaller than `min_area_px` are none, on
    either side: else those that segment leaves out would be missed. None where there are no pores.
    """
    found, true = (
        label_regions(without_specks(mask, min_area_px), connectivity=2)
        for mask in (predicted & (label != UNKNOWN), label == PORE)
    )
    both = (found > 0) & (true > 0)
    base = int(true.max()) + 1  # a pair is one number: as such it is counted ten times as fast
    pairs, shared = np.unique(found[both].astype(np.int64) * base + true[both], return_counts=True)
    areas = np.bincount(found.ravel())[pairs // base], np.bincount(true.ravel())[pairs % base]
    union = areas[0] + areas[1] - shared
    return ratio(2 * int((2 * shared > union).sum()), int(found.max() + true.max()))


def median_diameter(pore: NDArray[np.bool_], min_area_px: int, connectivity: int) -> float | None:
    """Area-weighted median of the equivalent diameters, px, of pores (H, W), specks left out; None of none.

    As porosity.csv has it of a whole image: half of the pore area is in larger pores.
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
