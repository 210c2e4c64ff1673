"""Polarity: whether models see a raster as it is or its inverse, and whether they know its like."""

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

CLEARER = 0.1  # IoU by which the inverse is to be better (docs/accuracy.md)
CLEAR = 0.6  # IoU from which pores are clear enough as they are
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
    learned from, and decidedly more so than it does itself; where this is not so and it is
    strange as it is, whether pores are clearer in the inverse.
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
    found: it may have no pores. And one whose pores are clear as they are: in some images bright
    grains are as clear as dark pores.
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
    """Probabilities (P,) of pixels that are chosen (H, W) of pictures (H, W, 3), the mean over models."""
    found = []
    for pixels, here in zip(pictures, chosen, strict=True):
        windows, (height, width) = padded(pixels)[None], pixels.shape[:2]
        mean = np.mean([model.probabilities(windows)[0] for model in models], axis=0)
        found.append(mean[:height, :width][here])
    return np.asarray(np.concatenate(found), np.float32)
