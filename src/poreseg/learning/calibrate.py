"""Calibrate: scale probabilities so that 0.8 means 0.8, and find the best threshold for IoU.

Both are fitted to images that a model was not trained on. Temperature scaling after Guo
et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from poreseg.images.raster import open_raster
from poreseg.learning.card import THRESHOLD
from poreseg.learning.model import Model
from poreseg.learning.sliding import predict_raster
from poreseg.metrics import BINS, histograms, iou_by_threshold

STITCHED = {"window": 512, "overlap": 64, "batch": 4}  # how training predicts whole images
MAX_TEMPERATURE = 10.0  # and 1 / 10 the least
THRESHOLDS = np.arange(0.2, 0.71, 0.02)
LEAST_IMAGES = 5  # with pores; a threshold fitted to two failed on other images (docs/accuracy.md)


def calibrate(model: Model, images: Sequence[tuple[Path, Path]]) -> tuple[float, float]:
    """Fit a temperature, apply it to the model, and find the best threshold for it.

    Parameters
    ----------
    model
        Its network is changed in place.
    images
        Rasters and labels that it was not trained on. All have equal weight, as in the
        mean IoU.

    Returns
    -------
    The temperature (1 where the labels lack pore or matrix), and the best threshold with
    predict's default turns and flips (`THRESHOLD` where they lack one, or for fewer than
    `LEAST_IMAGES` images with pores).
    """
    pore, matrix = _counted(model, images, tta="none")
    if not pore.any() or not matrix.any():
        return 1.0, THRESHOLD
    temperature = fit_temperature(pore, matrix)
    apply_temperature(model.network, temperature)
    if np.count_nonzero(pore.any(axis=1)) < LEAST_IMAGES:
        return temperature, THRESHOLD
    return temperature, best_threshold(*_counted(model, images, tta="auto"))


def _counted(
    model: Model, images: Sequence[tuple[Path, Path]], tta: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Histograms (images, bins) of the probabilities of pore and of matrix pixels."""
    found = []
    for raster, label in images:
        values = predict_raster([model], raster, **STITCHED, tta=tta)
        with open_raster(label) as truth:
            found.append(histograms(values, truth.band(), BINS))
    pore, matrix = zip(*found, strict=True)
    return np.array(pore), np.array(matrix)


def fit_temperature(pore: NDArray[np.int64], matrix: NDArray[np.int64]) -> float:
    """The temperature that minimises cross-entropy, from histograms (images, bins)."""
    pixels = (pore + matrix).sum(axis=1, keepdims=True).clip(min=1)
    share_pore, share_matrix = (pore / pixels).mean(axis=0), (matrix / pixels).mean(axis=0)
    middles = (np.arange(BINS) + 0.5) / BINS
    logits = np.log(middles / (1 - middles))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(share_pore @ np.logaddexp(0, -scaled) + share_matrix @ np.logaddexp(0, scaled))

    bound = np.log(MAX_TEMPERATURE)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded").x))


def best_threshold(pore: NDArray[np.int64], matrix: NDArray[np.int64]) -> float:
    """The threshold of highest mean IoU over images with pores, from histograms (images, bins)."""
    holds = pore.any(axis=1)
    bins = np.rint(THRESHOLDS * BINS).astype(int)
    ious = iou_by_threshold(pore[holds], matrix[holds])[:, bins].mean(axis=0)
    near = np.abs(THRESHOLDS - THRESHOLD)  # ties go to the usual one
    best = int(np.lexsort((near, -np.round(ious, 4)))[0])
    return round(float(THRESHOLDS[best]), 2)


def apply_temperature(network: nn.Module, temperature: float) -> None:
    """Divide a network's logits by a temperature, in place, within its last layer.

    So the temperature is in the weights: whoever loads the model gets calibrated logits.
    """
    layer = next(m for m in network.segmentation_head.modules() if isinstance(m, nn.Conv2d))  # type: ignore[union-attr]
    with torch.no_grad():
        layer.weight /= temperature
        if layer.bias is not None:
            layer.bias /= temperature
