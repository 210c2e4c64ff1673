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


@dataclass(frozen=True)
class Seen:
    """How models see a raster: as it is or its inverse; and whether it is strange to them so."""

    inverse: bool
    strange: bool


def how_seen(models: Sequence[Predictor], path: Path | str, polarity: str) -> Seen:
    """How models are to see a raster, by `predict.polarity` of params.yaml.

    "keep" and "invert" say it. "auto" asks whether it or its inverse looks like an image that
    they have learned from and, where it does not and its inverse is hardly nearer, whether pores
    are clearer in the inverse.
    """
    found = likeness(models, path)
    if found is None:
        return Seen(polarity == "invert", strange=False)
    inverse = polarity == "invert"
    if polarity == "auto":
        strange = found.strange(inverse=False)
        inverse = found.inverted or (strange and clearer_inverted(models, path))
    return Seen(inverse, found.strange(inverse=inverse))


def clearer_inverted(models: Sequence[Predictor], path: Path | str) -> bool:
    """Whether what models find in the inverse of a gray raster is decidedly more like pores.

    Pores that are seen the right way have a shade of their own, so that a model of shades finds
    the same ones; seen the wrong way they are bits of this and that. A raster with colours stays
    as it is: the complement of a dye is a dye as well. So does one in which nothing is found.
    """
    looks, as_it_is, inverse = [], [], []
    random = np.random.default_rng(0)
    with open_raster(path) as raster:
        windows = spread_windows(raster)
        share = PIXELS / max(1, sum(window.height * window.width for window in windows))
        for window in windows:
            pixels, valid = raster.rgb8(window), raster.valid(window)
            if (pixels != pixels[..., :1]).any():
                return False
            chosen = valid & (random.random(valid.shape) < share)
            looks.append(filtered(pixels)[chosen])
            as_it_is.append(_found(models, pixels)[chosen])
            inverse.append(_found(models, raster.rgb8(window, inverse=True))[chosen])
    if not looks:
        return False
    seen = np.concatenate(looks)
    pores, one = learn(seen, np.concatenate(as_it_is), THRESHOLD)
    _, other = learn(seen, np.concatenate(inverse), THRESHOLD)
    return pores is not None and other - one > CLEARER


def _found(models: Sequence[Predictor], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (H, W) of a window (H, W, 3), the mean over models."""
    windows, (height, width) = whole(pixels)[None], pixels.shape[:2]
    found = np.mean([model.probabilities(windows)[0] for model in models], axis=0)
    return np.asarray(found[:height, :width], np.float32)
