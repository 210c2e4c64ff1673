"""Likeness: whether an image, or its inverse, is like those that a model was trained on.

One instrument shows pores dark, another bright; a network trained on dark pores finds
no bright ones. It need not learn both: its middle layers show whether an image, or its
inverse, or neither, looks like a training image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poreseg.images.raster import open_raster
from poreseg.learning.looks import Look, look_of
from poreseg.learning.sliding import Predictor

# Unlikeness, measured with tf_efficientnet_lite0 (docs/accuracy.md): new images of known materials
# are below FAMILIAR, with few exceptions, and their inverses mostly twice as unlike; images of other
# materials are above it, and so are their inverses.
FAMILIAR, NEARER = 0.0075, 0.8
FLOOR = 1e-4  # of the mean variance, so that channels silent in both looks do not differ


@dataclass(frozen=True)
class Likeness:
    """Unlikeness of a raster, and of its inverse, to the nearest training image of models."""

    as_it_is: float
    inverse: float

    @property
    def inverted(self) -> bool:
        """Whether the inverse is familiar, and clearly more so than the raster."""
        return self.inverse <= FAMILIAR and self.inverse < NEARER * self.as_it_is

    def strange(self, *, inverse: bool) -> bool:
        """Whether the raster (or its inverse) is unlike all training images."""
        return (self.inverse if inverse else self.as_it_is) > FAMILIAR


def likeness(models: Sequence[Predictor], path: Path | str) -> Likeness | None:
    """Unlikeness to each model's nearest training image; the mean over models.

    The nearest counts, as a study may hold both polarities. None where no model has
    looks, or the raster shows no specimen.
    """
    found = []
    with open_raster(path) as raster:
        for model in (model for model in models if model.seen):
            looks = [look_of(model, raster, inverse=inverse) for inverse in (False, True)]
            found.append([min(unlike(look, known) for known in model.seen.values())
                          for look in looks if look is not None])  # fmt: skip
    return Likeness(*map(float, np.mean(found, axis=0))) if any(found) else None


def unlike(one: Look, other: Look) -> float:
    """Unlikeness of two looks (2, C): 0 for equal ones, 1 for nothing in common.

    Median over the channels of the squared Hellinger distance of normal distributions. The
    median, because a few channels differ between any two images.
    """
    (mean, variance), (mean_other, variance_other) = one, other
    floor = FLOOR * (variance.mean() + variance_other.mean()) / 2
    a, b = np.maximum(variance, 0) + floor, np.maximum(variance_other, 0) + floor
    shared = np.sqrt(2 * np.sqrt(a * b) / (a + b)) * np.exp(-((mean - mean_other) ** 2) / (4 * (a + b)))  # fmt: skip
    return float(np.median(1 - shared))
