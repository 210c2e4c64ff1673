"""Looks: whether an image, or its inverse, is like those that a model has learned from.

One instrument draws pores dark, another bright; a network that has learned dark pores finds
no bright ones. Learning from inverted images as well costs what it then cannot tell apart,
and there is no need: a network's first layers show whether an image looks like one that it
has learned from, or whether its inverse does, or neither. An image's look is the mean and
the variance of each channel there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import Raster, open_raster
from poreseg.images.windows import Window, starts
from poreseg.learning.sliding import STRIDE, Predictor

Look = NDArray[np.float32]  # (2, C): mean and variance of each channel
SIDE, ACROSS = 256, 4  # px; windows that a look is taken from, at most so many each way
# Unlikeness. New images of known materials are below 0.005, most below 0.003; their inverses are
# 2 to 10 times as unlike; other materials are above 0.005 (docs/accuracy.md).
FAMILIAR, NEARER = 0.006, 0.6
FLOOR = 1e-3  # of variances: a channel that is silent everywhere tells nothing


def look_of(model: Predictor, raster: Raster, *, inverse: bool = False) -> Look:
    """Look (2, C) of a raster, or of its inverse, from windows spread evenly over it."""
    rows, cols = (_spread(length) for length in (raster.height, raster.width))
    windows = [Window(row, col, SIDE, SIDE).inside(raster.height, raster.width) for row in rows for col in cols]  # fmt: skip
    shown = [window for window in windows if raster.valid(window).any()] or windows
    moments = np.mean([_moments(model, raster.rgb8(window, inverse=inverse)) for window in shown], 0)  # fmt: skip
    mean, square = moments
    return np.stack([mean, square - mean**2]).astype(np.float32)


def unlike(one: Look, other: Look) -> float:
    """How little two looks have in common: 0 is nothing but the same, 1 is nothing in common.

    Median over the channels of the squared Hellinger distance of normal distributions. The
    median, because a few channels differ between any two images.
    """
    (mean, variance), (mean_other, variance_other) = one, other
    a, b = np.maximum(variance, 0) + FLOOR, np.maximum(variance_other, 0) + FLOOR
    shared = np.sqrt(2 * np.sqrt(a * b) / (a + b)) * np.exp(-((mean - mean_other) ** 2) / (4 * (a + b)))  # fmt: skip
    return float(np.median(1 - shared))


@dataclass(frozen=True)
class Likeness:
    """How unlike a raster is to the nearest image that models have learned from, and how its inverse is."""

    as_is: float
    inverse: float

    @property
    def strange(self) -> bool:
        """Whether it looks like no image that the models know, whichever way it is seen."""
        return min(self.as_is, self.inverse) > FAMILIAR

    @property
    def inverted(self) -> bool:
        """Whether its inverse is familiar, and decidedly nearer than it is itself."""
        return not self.strange and self.inverse < NEARER * self.as_is


def likeness(models: Sequence[Predictor], path: Path | str) -> Likeness | None:
    """Compare a raster with what models have learned from; the mean over models.

    Of each model the nearest image counts, so that a study may hold both polarities. None
    where the models do not know how their images looked.
    """
    found = []
    with open_raster(path) as raster:
        for model in models:
            if model.seen:
                looks = [look_of(model, raster, inverse=inverse) for inverse in (False, True)]
                found.append([min(unlike(look, known) for known in model.seen.values()) for look in looks])  # fmt: skip
    return Likeness(*map(float, np.mean(found, axis=0))) if found else None


def _spread(length: int) -> list[int]:
    """First pixels of a few windows along a line, evenly spread."""
    every = starts(length, SIDE, SIDE)
    chosen = np.linspace(0, len(every) - 1, min(ACROSS, len(every)))
    return [every[round(i)] for i in chosen]


def _moments(model: Predictor, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Moments (2, C) of a window (H, W, 3), mirrored until it suits the network."""
    below, right = (-length % STRIDE for length in pixels.shape[:2])
    whole = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
    return model.looks(whole[None])[0]
