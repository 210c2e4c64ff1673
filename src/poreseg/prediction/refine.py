"""Refine: a network finds the pores of an image, whose own colours define their borders.

A network trained on a few images finds the pores of a new one, but is unsure of all that looks
a little different there. So a second model, a logistic regression of about a dozen parameters,
learns from the network's probabilities what pore and matrix look like in this image. It has
too few parameters to learn single mistakes. Where pores differ in colour and shade the two
agree, and the second defines the border; where they differ in form the two disagree, and the
network prevails. The network is trusted more in materials that it knows, where it has learned
what has the colours of pores but is not one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import Raster
from poreseg.images.windows import Window, grid

Probabilities = Callable[[Window], NDArray[np.float32]]  # (H, W) of a window, NaN: no specimen
COLOURS = (0.7, 1.5, 3.0)  # px, sigmas for a pixel's colours
SURROUNDINGS = (15.0, 30.0)  # px, sigmas for mean and deviation of the gray level
MARGIN = 120  # px, four times the largest sigma: as far as OpenCV blurs
WINDOW = 1024  # px, side of the windows whose features are in memory
PIXELS = 20_000  # per image to learn from: a dozen parameters need no more
PLACE, PLACES = 512, 16  # px, side of the windows they are sampled in; at most so many
Bounds = tuple[float, float]  # IoU of both up to which the second has no weight, from which full
STRANGE: Bounds = (0.5, 0.8)  # for an image unlike all training images
KNOWN: Bounds = (0.8, 0.9)  # for others: there the network tells look-alikes from pores


@dataclass(frozen=True)
class Second:
    """The second model of an image, and its weight, from 0 (unused) to 1 (alone)."""

    model: Any
    share: float

    def refined(
        self, image: Raster, window: Window, found: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities (H, W) of a window, by both."""
        if not self.share:
            return found
        own = self.model.predict_proba(features(image, window).reshape(found.size, -1))[:, 1]
        return found + np.float32(self.share) * (
            own.reshape(found.shape).astype(np.float32) - found
        )


def bounds(choice: str, *, strange: bool) -> Bounds | None:
    """The bounds by `predict.refine` of params.yaml; None where no second model is used.

    "always" treats every raster as strange.
    """
    if choice == "never":
        return None
    return STRANGE if strange or choice == "always" else KNOWN


def learn_from(image: Raster, found: Probabilities, threshold: float, between: Bounds) -> Second:
    """Fit the second model of an image to the network's probabilities of it.

    Parameters
    ----------
    image
        Canonical raster.
    found
        Reads the probabilities.
    threshold
        Of pores, for comparing the models.
    between
        See `bounds`.
    """
    random = np.random.default_rng(0)
    windows = list(grid(image.height, image.width, PLACE))
    places = np.sort(random.permutation(len(windows))[:PLACES])
    share = PIXELS / sum(windows[place].height * windows[place].width for place in places)
    looks, soft = [], []
    for place in places:
        values = found(window := windows[place])
        chosen = ~np.isnan(values) & (random.random(values.shape) < share)
        if chosen.any():
            looks.append(features(image, window)[chosen])
            soft.append(values[chosen])
    if not looks:
        return Second(None, 0.0)
    model, agreement = learn(np.concatenate(looks), np.concatenate(soft), threshold)
    different, alike = between
    say = np.clip((agreement - different) / (alike - different), 0, 1)
    return Second(model, round(float(say), 2))  # a negligible share becomes 0


def learn(
    seen: NDArray[np.float32], pore: NDArray[np.float32], threshold: float
) -> tuple[Any, float]:
    """A model of probabilities `pore` (P,) from features `seen` (P, F), and its agreement.

    That is the IoU of its pores and theirs at a threshold. (None, 0) where no probability
    reaches it.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not (pore >= threshold).any():
        return None, 0.0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    twice = np.concatenate([seen, seen])  # as pore and as matrix, weighted by probability
    classes = np.repeat([True, False], len(pore))
    model.fit(twice, classes, logisticregression__sample_weight=np.concatenate([pore, 1 - pore]))
    own = model.predict_proba(seen)[:, 1] >= threshold
    return model, float((own & (pore >= threshold)).sum() / (own | (pore >= threshold)).sum())


def features(image: Raster, window: Window) -> NDArray[np.float32]:
    """What the second model sees of a window's pixels, (H, W, F)."""
    around, here = window.around(MARGIN, image.height, image.width)
    return filtered(image.rgb8(around))[here]


def filtered(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features (H, W, F) of pixels (H, W, 3): colours, and mean and deviation of gray, at some scales."""
    colours = np.divide(pixels, 255, dtype=np.float32)
    gray = colours.mean(axis=-1)
    found = [_blurred(colours, sigma) for sigma in COLOURS]
    for sigma in SURROUNDINGS:
        mean = _blurred(gray, sigma)
        variance = _blurred(gray * gray, sigma) - mean * mean
        found += [mean[..., None], np.sqrt(np.maximum(variance, 0))[..., None]]
    return np.concatenate(found, axis=-1)


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
