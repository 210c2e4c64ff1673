"""Polarity: whether models see a raster as it is or its inverse, and whether they know its like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import open_raster
from poreseg.learning.card import THRESHOLD
from poreseg.learning.looks import spread_windows, whole
from poreseg.learning.sliding import Predictor
from poreseg.prediction.likeness import likeness
from poreseg.prediction.refine import PIXELS, filtered, learn

CLEARER = 0.1  # IoU by which the inverse is to be better (docs/accuracy.md)
LEAST = 0.005  # of the pixels that are found: fewer say nothing about the rest
COLOURED = 8  # levels between channels that are a colour, not the noise of a camera
MARKS = 0.01  # of the pixels that may have one, in a gray image


@dataclass(frozen=True)
class Seen:
    """How models see a raster: as it is or its inverse; and whether it is strange to them so.

    `why` says what speaks for the inverse where nobody has asked for it.
    """

    inverse: bool
    strange: bool
    why: str | None = None


def how_seen(models: Sequence[Predictor], path: Path | str, polarity: str) -> Seen:
    """How models are to see a raster, by `predict.polarity` of params.yaml.

    "keep" and "invert" say it. "auto" asks whether its inverse looks like an image that they have
    learned from and, where neither it nor its inverse decidedly does, whether pores are clearer
    in the inverse.
    """
    found, why = likeness(models, path), None
    if found is None:
        return Seen(polarity == "invert", strange=False)
    if polarity == "auto":
        if found.inverted:
            why = "its inverse looks like the images that the model has learned from"
        elif found.strange(inverse=False) and clearer_inverted(models, path):
            why = "its pores are clearer in its inverse"
    inverse = polarity == "invert" or why is not None
    return Seen(inverse, found.strange(inverse=inverse), why)


def clearer_inverted(models: Sequence[Predictor], path: Path | str) -> bool:
    """Whether what models find in the inverse of a gray raster is decidedly more like pores.

    Pores that are seen the right way have a shade of their own, so that a model of shades finds
    the same ones; seen the wrong way they are bits of this and that. A raster with colours stays
    as it is: the complement of a dye is a dye as well. So does one in which hardly anything is
    found: it may have no pores.
    """
    looks, as_it_is, inverse = [], [], []
    random = np.random.default_rng(0)
    with open_raster(path) as raster:
        windows = spread_windows(raster)
        share = PIXELS / max(1, sum(window.height * window.width for window in windows))
        pictures = [raster.rgb8(window) for window in windows]
        if not pictures or np.mean([_coloured(pixels) for pixels in pictures]) > MARKS:
            return False
        for window, pixels in zip(windows, pictures, strict=True):
            valid = raster.valid(window)
            chosen = valid & (random.random(valid.shape) < share)
            looks.append(filtered(pixels)[chosen])
            as_it_is.append(_found(models, pixels)[chosen])
            inverse.append(_found(models, raster.rgb8(window, inverse=True))[chosen])
    one, other = np.concatenate(as_it_is), np.concatenate(inverse)
    if (one >= THRESHOLD).mean() < LEAST:
        return False
    seen = np.concatenate(looks)
    return learn(seen, other, THRESHOLD)[1] - learn(seen, one, THRESHOLD)[1] > CLEARER


def _coloured(pixels: NDArray[np.uint8]) -> float:
    """Share of pixels (H, W, 3) that have a colour."""
    return float((np.ptp(pixels, axis=-1) > COLOURED).mean())


def _found(models: Sequence[Predictor], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (H, W) of a window (H, W, 3), the mean over models."""
    windows, (height, width) = whole(pixels)[None], pixels.shape[:2]
    found = np.mean([model.probabilities(windows)[0] for model in models], axis=0)
    return np.asarray(found[:height, :width], np.float32)
