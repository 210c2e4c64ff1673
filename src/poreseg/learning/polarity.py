"""Polarity: is an image the inverse of what a model knows? Then the model is to see it inverted.

Electrons that scatter back and light that is stopped draw the same pores black, others draw
them white; a network that has learned dark pores finds no bright ones. Inverting images in
training costs what it then cannot tell apart, and there is no need: the first layers of a
network show at once whether an image looks like one that it has learned from, or whether its
inverse does. An image's look is the mean and the variance of each channel there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import Raster, open_raster
from poreseg.images.windows import Window, starts
from poreseg.learning.sliding import STRIDE, Predictor

Look = NDArray[np.float32]  # (2, C): mean and variance of each channel
SIDE, ACROSS = 256, 4  # px; windows that a look is taken from, at most so many each way
NEARER = (
    0.5  # so much less unlike is an inverse that is taken: a wrong one costs more than a missed one
)
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


def is_inverse(models: Sequence[Predictor], path: Path | str) -> bool:
    """Whether a raster's inverse looks decidedly more like what the models have learned from.

    Of each model the nearest image counts, so that a study may hold both polarities. Models
    that do not know how their images look have no say.
    """
    as_is: list[float] = []
    inverted: list[float] = []
    with open_raster(path) as raster:
        for model in models:
            if model.seen:
                for found, inverse in ((as_is, False), (inverted, True)):
                    look = look_of(model, raster, inverse=inverse)
                    found.append(min(unlike(look, known) for known in model.seen.values()))
    return bool(as_is) and sum(inverted) < NEARER * sum(as_is)


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
