"""Scores from counts: count first over whole images, divide last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from poreseg.classes import MATRIX, PORE, UNKNOWN

METHODS = {  # baselines, and what they are called
    "otsu": "Otsu's threshold", "sauvola": "Sauvola's local threshold", "random_forest": "random forest",
}  # fmt: skip
ROLES = ("train", "validation", "test")
BINS = 1000  # of the probability: most are near 0, and there a hundredth is too coarse


@dataclass(frozen=True)
class Counts:
    """Pixels of a prediction against a label; unknown pixels are in none of them."""

    true_pore: int = 0
    false_pore: int = 0
    missed_pore: int = 0
    true_matrix: int = 0

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.true_pore + other.true_pore,
            self.false_pore + other.false_pore,
            self.missed_pore + other.missed_pore,
            self.true_matrix + other.true_matrix,
        )

    @property
    def iou(self) -> float | None:
        """Intersection over union of the pores; None where the label has none.

        It would be 0 for a single false pixel there, and undefined for none: the means of two
        methods would be of different images. False pores there count in pooled scores and porosity.
        """
        union = self.true_pore + self.false_pore + self.missed_pore
        return ratio(self.true_pore, union) if self.label_porosity else None

    @property
    def dice(self) -> float | None:
        """Twice the intersection over the sum of both areas; None where the label has no pore."""
        areas = 2 * self.true_pore + self.false_pore + self.missed_pore
        return ratio(2 * self.true_pore, areas) if self.label_porosity else None

    @property
    def precision(self) -> float | None:
        """Share of the predicted pores that is true; None where none is predicted."""
        return ratio(self.true_pore, self.true_pore + self.false_pore)

    @property
    def recall(self) -> float | None:
        """Share of the true pores that is found; None where the label has none."""
        return ratio(self.true_pore, self.true_pore + self.missed_pore)

    @property
    def known(self) -> int:
        """Pixels that are compared."""
        return self.true_pore + self.false_pore + self.missed_pore + self.true_matrix

    @property
    def porosity(self) -> float | None:
        """Predicted share of pores among the known pixels."""
        return ratio(self.true_pore + self.false_pore, self.known)

    @property
    def label_porosity(self) -> float | None:
        """Labelled share of pores among the known pixels."""
        return ratio(self.true_pore + self.missed_pore, self.known)

    @property
    def porosity_error(self) -> float | None:
        """By how much the predicted share of pores is above the labelled one."""
        return ratio(self.false_pore - self.missed_pore, self.known)


def ratio(part: int, whole: int) -> float | None:
    """A ratio, or None where it is undefined: never 0 or 1 for an empty image."""
    return part / whole if whole else None


def count(predicted: NDArray[np.bool_], label: NDArray[np.uint8]) -> Counts:
    """Compare a prediction (H, W) bool with a label (H, W) of 0, 1 and 255 unknown.

    >>> count(np.array([[True, True, False, True]]), np.array([[1, 0, 1, 255]], np.uint8))
    Counts(true_pore=1, false_pore=1, missed_pore=1, true_matrix=0)
    """
    known, pore = label != UNKNOWN, label == PORE
    hit = int(np.count_nonzero(predicted & pore))
    found = int(np.count_nonzero(predicted & known))
    wanted = int(np.count_nonzero(pore))
    total = int(np.count_nonzero(known))
    return Counts(hit, found - hit, wanted - hit, total - found - wanted + hit)


def histograms(
    probabilities: NDArray[np.float32], label: NDArray[np.uint8], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many pore pixels, and how many matrix pixels, have a probability in each of equal bins.

    Where there is no specimen (NaN) the probability is 0.

    >>> histograms(np.array([[0.1, 0.9, 1.0, np.nan]]), np.array([[0, 1, 1, 255]], np.uint8), 2)
    (array([0, 2]), array([1, 0]))
    """
    place = np.clip((np.nan_to_num(probabilities) * bins).astype(np.int64), 0, bins - 1)
    return (np.bincount(place[label == PORE], minlength=bins),
            np.bincount(place[label == MATRIX], minlength=bins))  # fmt: skip


def iou_by_threshold(pore: NDArray[np.int64], matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU (..., bins) where the lower edge of each bin is the threshold, of histograms (..., bins); NaN of nothing.

    >>> iou_by_threshold(np.array([0, 2]), np.array([1, 0])).round(2).tolist()
    [0.67, 1.0]
    """
    hit, false = (np.flip(np.flip(found, -1).cumsum(-1), -1) for found in (pore, matrix))
    union = pore.sum(-1, keepdims=True) + false
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the defined values, None where there are none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def interval(values: Sequence[float | None], specimens: Sequence[str]) -> list[float] | None:
    """95 % interval of the mean over images, by Student's t; None for fewer than two specimens.

    Specimens are what was drawn: images of one are alike, and say less than as many of others.
    So the mean is a ratio of sums over specimens, and its variance that of their residuals
    (Cochran 1977, "Sampling Techniques", single-stage clusters of unequal sizes). A percentile bootstrap, of
    values like these, holds the mean of 2, 5 and 10 specimens in 50, 83 and 91 % of cases.

    Parameters
    ----------
    values
        One an image; None is left out.
    specimens
        Which one each image shows.

    >>> [round(bound, 3) for bound in interval([0.4, 0.6, 0.8], ["a", "b", "c"])]
    [0.103, 1.097]
    """
    defined = [(v, s) for v, s in zip(values, specimens, strict=True) if v is not None]
    of = np.unique([specimen for _, specimen in defined], return_inverse=True)[1]
    images = np.bincount(of)
    drawn = len(images)
    if drawn < 2:
        return None
    sums = np.bincount(of, [value for value, _ in defined])
    middle = sums.sum() / images.sum()
    variance = drawn / (drawn - 1) * np.square(sums - middle * images).sum() / images.sum() ** 2
    reach = stdtrit(drawn - 1, 0.975) * np.sqrt(variance)
    return [float(middle - reach), float(middle + reach)]


def summarise(counts: Sequence[Counts], specimens: Sequence[str]) -> dict[str, Any]:
    """The scores of a set of images: means over those whose label holds a pore, and pooled over all pixels."""
    ious = [c.iou for c in counts]
    off = [c.porosity_error for c in counts]
    # of the images that IoU is the mean of, whatever the method finds: 0 where that is nothing
    precisions = [c.precision or 0.0 for c in counts if c.label_porosity]
    bounds = interval(ious, specimens)
    pooled = sum(counts, Counts())
    return {
        "images": len(counts),
        "specimens": len(set(specimens)),
        "iou_mean": mean(ious),
        "iou_ci95": bounds and [max(bounds[0], 0.0), min(bounds[1], 1.0)],
        "iou_pooled": pooled.iou,
        "dice_mean": mean([c.dice for c in counts]),
        "dice_pooled": pooled.dice,
        "precision_mean": mean(precisions),
        "precision_pooled": pooled.precision,
        "recall_mean": mean([c.recall for c in counts]),
        "recall_pooled": pooled.recall,
        "porosity_error_mean": mean([abs(error) for error in off if error is not None]),
        "porosity_bias": mean(off),
        "images_without_iou": sum(iou is None for iou in ious),
    }
