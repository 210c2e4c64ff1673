"""A random forest on filtered pixels, as in interactive segmentation tools, from the same labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from poreseg.classes import NOTHING_KNOWN, PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.images.raster import Raster, open_raster
from poreseg.images.windows import Window, grid
from poreseg.metrics import Counts, count

SIGMA = {"sigma_min": 1.0, "sigma_max": 16.0}  # px, narrowest and widest filter
MARGIN = 80  # px, reach of the widest filter
WINDOW = 1024  # px, side of the part whose features are in memory


def learn(
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    *,
    threads: int,
    pixels: int,
    trees: int,
    seed: int,
) -> RandomForestClassifier:
    """A forest trained on up to `pixels` random pixels of each image.

    Up to half of them are pores, up to half matrix; weights restore the share of both
    classes. `PoresegError` if no label has a known pixel.
    """
    random = np.random.default_rng(seed)
    features, classes, weights = [], [], []
    for raster, label in zip(rasters, labels, strict=True):
        with open_raster(raster) as image, open_raster(label) as truth:
            known = truth.band().ravel()
            chosen = {pore: _drawn(np.flatnonzero((known == PORE) if pore else (known != PORE) & (known != UNKNOWN)),
                                   pixels // 2, random) for pore in (True, False)}  # fmt: skip
            rows = np.concatenate([places for places, _ in chosen.values()])
            if not len(rows):  # no known pixel
                continue
            features.append(_features_at(image, rows))
        for pore, (places, share) in chosen.items():
            classes.append(np.full(len(places), pore))
            weights.append(np.full(len(places), share))
    if not features:
        raise PoresegError(NOTHING_KNOWN)
    forest = RandomForestClassifier(trees, min_samples_leaf=2, n_jobs=threads, random_state=seed)
    return forest.fit(np.concatenate(features), np.concatenate(classes), np.concatenate(weights))


def score(
    forests: Sequence[RandomForestClassifier], raster: Path | str, label: Path | str
) -> Counts:
    """Counts of an image against its label: pore where the forests' mean is at least 0.5."""
    total = Counts()
    with open_raster(raster) as image, open_raster(label) as truth:
        for window in grid(image.height, image.width, WINDOW):
            known = truth.band(window)
            if (known == UNKNOWN).all():
                continue
            found = features(image, window).reshape(known.size, -1)
            pore = np.mean([_probability(forest, found) for forest in forests], axis=0)
            total += count((pore >= 0.5).reshape(known.shape), known)
    return total


def features(image: Raster, window: Window) -> NDArray[np.float32]:
    """Intensity, edges and texture at five scales, (H, W, F), of a window's pixels."""
    around, here = window.around(MARGIN, image.height, image.width)
    pixels = image.rgb8(around)
    if (pixels == pixels[..., :1]).all():  # gray: computed once for all channels
        found = np.tile(multiscale_basic_features(pixels[..., 0], **SIGMA), 3)
    else:
        found = multiscale_basic_features(pixels, **SIGMA, channel_axis=-1)
    return np.asarray(found[here], np.float32)


def _probability(forest: RandomForestClassifier, found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pore probability (P,), 0 if a forest was trained without pores."""
    return forest.predict_proba(found)[:, np.flatnonzero(forest.classes_)].sum(axis=1)


def _features_at(image: Raster, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features (P, F) of pixels, given by their index in the flattened image."""
    rows, cols = np.divmod(places, image.width)
    found = np.empty((len(places), 0), np.float32)
    for window in grid(image.height, image.width, WINDOW):
        here = (rows // WINDOW == window.row // WINDOW) & (cols // WINDOW == window.col // WINDOW)
        if here.any():
            values = features(image, window)
            if not found.size:
                found = np.empty((len(places), values.shape[-1]), np.float32)
            found[here] = values[rows[here] - window.row, cols[here] - window.col]
    return found


def _drawn(
    places: NDArray[np.int64], number: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Up to `number` random places, and how many places each stands for."""
    drawn = random.choice(places, min(number, len(places)), replace=False)
    return drawn, len(places) / max(1, len(drawn))
