"""Calibrate: a probability of 0.8 shall mean 0.8, and the threshold be the one that serves IoU.

Both are fitted on images that a model has not learned from. Temperature scaling after Guo
et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from poreseg.images.raster import open_raster
from poreseg.learning.model import THRESHOLD, Model
from poreseg.learning.sliding import predict_raster
from poreseg.metrics import histograms

AS_PREDICTED = {"window": 512, "overlap": 64, "batch": 4, "tta": "auto"}
BINS = 1000  # of probability
HOTTEST = 10.0  # and 1 / 10 the coldest temperature
THRESHOLDS = np.arange(0.3, 0.71, 0.02)  # beyond these a few images are no proof


@dataclass(frozen=True)
class Calibration:
    """What logits are divided by, and from which probability on a pixel is pore."""

    temperature: float
    threshold: float


def calibrate(model: Model, images: Sequence[tuple[Path, Path]]) -> Calibration:
    """Fit temperature and threshold on images (raster, label) that a model has not learned from.

    Every image counts the same, as in the mean IoU.
    """
    found = []
    for raster, label in images:
        values = predict_raster([model], raster, **AS_PREDICTED)
        with open_raster(label) as truth:
            found.append(histograms(values, truth.band(), BINS))
    pore, matrix = (np.array(part) for part in zip(*found, strict=True))
    if not pore.any() or not matrix.any():
        return Calibration(1.0, THRESHOLD)
    temperature = fit_temperature(pore, matrix)
    return Calibration(temperature, best_threshold(pore, matrix, temperature))


def fit_temperature(pore: NDArray[np.int64], matrix: NDArray[np.int64]) -> float:
    """The temperature of the least cross-entropy, of histograms (images, bins)."""
    known = (pore + matrix).sum(axis=1, keepdims=True).clip(min=1)
    share_pore, share_matrix = (pore / known).mean(axis=0), (matrix / known).mean(axis=0)
    logits = _logits()

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(share_pore @ np.logaddexp(0, -scaled) + share_matrix @ np.logaddexp(0, scaled))

    bound = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded").x))


def best_threshold(pore: NDArray[np.int64], matrix: NDArray[np.int64], temperature: float) -> float:
    """The threshold, after scaling, of the highest mean IoU over images that hold pores."""
    scaled = 1 / (1 + np.exp(-_logits() / temperature))
    holds = pore.sum(axis=1) > 0
    ious = []
    for threshold in THRESHOLDS:
        above = scaled >= threshold
        union = pore.sum(axis=1) + matrix[:, above].sum(axis=1)
        ious.append((pore[:, above].sum(axis=1) / union.clip(min=1))[holds].mean())
    near = np.abs(THRESHOLDS - THRESHOLD)  # of equally good ones, the one nearest to the middle
    best = int(np.lexsort((near, -np.round(ious, 4)))[0])
    return round(float(THRESHOLDS[best]), 2)


def sharpen(network: nn.Module, temperature: float) -> None:
    """Divide a network's logits by a temperature, in place, within its last layer.

    So the temperature is in the weights: whoever loads the model gets calibrated logits.
    """
    layer = next(m for m in network.segmentation_head.modules() if isinstance(m, nn.Conv2d))  # type: ignore[union-attr]
    with torch.no_grad():
        layer.weight /= temperature
        if layer.bias is not None:
            layer.bias /= temperature


def _logits() -> NDArray[np.float64]:
    """Of the middles of the bins."""
    middles = (np.arange(BINS) + 0.5) / BINS
    return np.asarray(np.log(middles / (1 - middles)))
