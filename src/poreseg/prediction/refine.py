"""Refine: a network finds the pores of an image, its own colours say where they end.

A network that has learned from a few images finds the pores of a new one, and is unsure of all
that looks a little different there. So a second model, with hardly more parameters than the image has
colours, learns from the network's probabilities what pore and matrix look like in this very
image. It cannot learn single mistakes, for it has no room for them. Where pores are a matter of
colour and shade the two agree, and the second draws the border; where they are a matter of
form they do not, and the network keeps its word. It is believed more where it knows the material,
for it has learned there what has the colours of pores and is none.
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
COLOURS = (0.7, 1.5, 3.0)  # px, over which the colour of a pixel is taken
SURROUNDINGS = (15.0, 30.0)  # px, over which mean and deviation of the gray level are
MARGIN = 90  # px, to where the widest of them sees
WINDOW = 1024  # px, whose features are in memory at once
PIXELS = 20_000  # of an image to learn from: a dozen parameters need no more
PLACE, PLACES = 512, 16  # px, windows in which these lie, and how many of an image at most
Bounds = tuple[float, float]  # IoU of both up to which the second counts nothing, from which all
STRANGE: Bounds = (0.5, 0.8)  # of an image whose like the network has never seen
KNOWN: Bounds = (0.8, 0.9)  # of others: what looks like pores and is none the network has learned


@dataclass(frozen=True)
class Second:
    """The second model of an image, and its share: 0 where it has no say, 1 where it has all."""

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
    """How far colours and network are to agree, by `predict.refine` of params.yaml; None: it is not asked.

    "always" takes every raster for a strange one.
    """
    if choice == "never":
        return None
    return STRANGE if strange or choice == "always" else KNOWN


def learn_from(image: Raster, found: Probabilities, threshold: float, between: Bounds) -> Second:
    """Learn the looks of pores in an image from a network's probabilities of it.

    Parameters
    ----------
    image
        Canonical raster.
    found
        Reads the probabilities.
    threshold
        From which they are pores; the two are compared there.
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
    return Second(model, round(float(say), 2))  # less than a hundredth is none


def learn(
    seen: NDArray[np.float32], pore: NDArray[np.float32], threshold: float
) -> tuple[Any, float]:
    """A model of the probabilities `pore` (P,) of pixels by what is `seen` of them (P, F).

    And how far it agrees with them: the IoU of what both call pores from a threshold on. No
    model, and 0, where there are none.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not (pore >= threshold).any():
        return None, 0.0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    twice = np.concatenate([seen, seen])  # once as pore, once as matrix, as likely as it is
    classes = np.repeat([True, False], len(pore))
    model.fit(twice, classes, logisticregression__sample_weight=np.concatenate([pore, 1 - pore]))
    own = model.predict_proba(seen)[:, 1] >= threshold
    return model, float((own & (pore >= threshold)).sum() / (own | (pore >= threshold)).sum())


def features(image: Raster, window: Window) -> NDArray[np.float32]:
    """What the second model sees of a window's pixels, (H, W, F)."""
    around, here = window.around(MARGIN, image.height, image.width)
    return filtered(image.rgb8(around))[here]


def filtered(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours at some scales, and mean and deviation of the gray level around, (H, W, F), of (H, W, 3)."""
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
