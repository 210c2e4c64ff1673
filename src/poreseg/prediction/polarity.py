"""Polarity: whether models see a raster or its inverse, and whether it is like training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import open_raster
from poreseg.learning.card import THRESHOLD
from poreseg.learning.looks import padded, spread_windows
from poreseg.learning.sliding import Predictor
from poreseg.prediction.likeness import likeness
from poreseg.prediction.refine import PIXELS, filtered, learn

CLEARER = 0.1  # IoU by which the inverse must be better (docs/accuracy.md)
CLEAR = 0.6  # IoU from which pores are clear enough as they are
LEAST = 0.005  # share of pixels found as pores; fewer say nothing about the rest
COLOURED = 8  # levels between channels: more is a colour, not camera noise
MARKS = 0.01  # share of coloured pixels that a gray image may have


@dataclass(frozen=True)
class Seen:
    """How models see a raster: as it is or its inverse; and whether that is strange to them.

    `why` is the reason where "auto" chose the inverse.
    """

    inverse: bool
    strange: bool
    why: str | None = None


def how_seen(models: Sequence[Predictor], path: Path | str, polarity: str) -> Seen:
    """How models are to see a raster, by `predict.polarity` of params.yaml.

    "keep" and "invert" decide. "auto" takes the inverse if it looks like a training image, and
    clearly more so than the raster; or else, if the raster is strange as it is, where pores
    are clearer in the inverse. Without looks, it keeps the raster.
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
    """Whether what models find in the inverse of a gray raster is clearly more like pores.

    Pores in the right polarity have shades of their own, so that a model of shades finds the
    same ones; in the wrong one they are a mixture. False for a raster with colours: the
    complement of a dye is a dye as well; for one in which hardly anything is found: it may
    have no pores; and for one whose pores are clear as they are: in some images bright grains
    are as clear as dark pores.
    """
    random = np.random.default_rng(0)
    with open_raster(path) as raster:
        windows = spread_windows(raster)
        if not windows:
            return False
        pictures = [raster.rgb8(window) for window in windows]
        valid = [raster.valid(window) for window in windows]
        if np.concatenate([_coloured(*both) for both in zip(pictures, valid, strict=True)]).mean() > MARKS:  # fmt: skip
            return False
        share = PIXELS / sum(map(np.count_nonzero, valid))
        chosen = [known & (random.random(known.shape) < share) for known in valid]
        as_it_is = _found(models, pictures, chosen)
        if np.count_nonzero(as_it_is >= THRESHOLD) <= LEAST * as_it_is.size:
            return False
        looks = np.concatenate([filtered(pixels)[here] for pixels, here in zip(pictures, chosen, strict=True)])  # fmt: skip
        _, one = learn(looks, as_it_is, THRESHOLD)
        if one >= CLEAR:
            return False
        inverse = _found(models, [raster.rgb8(window, inverse=True) for window in windows], chosen)
    _, other = learn(looks, inverse, THRESHOLD)
    return other - one > CLEARER


def _coloured(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether valid pixels (P,), of (H, W, 3), have a colour."""
    return np.asarray(np.ptp(pixels, axis=-1)[valid] > COLOURED)


def _found(
    models: Sequence[Predictor], pictures: list[NDArray[np.uint8]], chosen: list[NDArray[np.bool_]]
) -> NDArray[np.float32]:
    """Probabilities (P,), mean over models, of the `chosen` (H, W) pixels of images (H, W, 3)."""
    found = []
    for pixels, here in zip(pictures, chosen, strict=True):
        windows, (height, width) = padded(pixels)[None], pixels.shape[:2]
        mean = np.mean([model.probabilities(windows)[0] for model in models], axis=0)
        found.append(mean[:height, :width][here])
    return np.asarray(np.concatenate(found), np.float32)
