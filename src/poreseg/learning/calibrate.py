"""Calibrate: a probability of 0.8 shall mean 0.8, and the threshold be the one that serves IoU.

Both, and whether refinement pays, are found on images that a model has not learned from. Temperature scaling after Guo
et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from poreseg.images.raster import open_raster
from poreseg.learning.card import THRESHOLD
from poreseg.learning.model import Model
from poreseg.learning.refine import refined
from poreseg.learning.sliding import predict_raster
from poreseg.metrics import histograms

AS_PREDICTED = {"window": 512, "overlap": 64, "batch": 4}
UNFITTED = {"temperature": 1.0, "threshold": THRESHOLD, "refine": True}
BINS = 1000  # of probability
MAX_TEMPERATURE = 10.0  # and 1 / 10 the least
THRESHOLDS = np.arange(0.2, 0.71, 0.02)
LEAST_IMAGES = 5  # that a threshold is fitted to; one of fewer did not hold for other images (docs/accuracy.md)


Found = tuple[Path, Path, NDArray[np.float32]]  # raster, label, probabilities (H, W)


def calibrate(model: Model, images: Sequence[tuple[Path, Path]]) -> dict[str, Any]:
    """Fit a temperature, apply it to the model, and find what then serves best.

    Parameters
    ----------
    model
        Its network is changed in place.
    images
        Rasters and labels that it has not learned from. Each counts the same, as in the
        mean IoU.

    Returns
    -------
    What stands in the card: `temperature`; `refine`, whether known materials are better with
    refinement; and the `threshold`, of turns, flips and refinement as the verb predict has
    them (`THRESHOLD` for fewer than `LEAST_IMAGES` images). `UNFITTED` where the labels hold
    no pore, or nothing else.
    """
    pore, matrix = _histograms(_found(model, images, tta="none"))
    if not pore.any() or not matrix.any():
        return UNFITTED
    temperature = fit_temperature(pore, matrix)
    apply_temperature(model.network, temperature)
    ways: dict[bool, list[Found]] = {False: [], True: []}
    for raster, label, values in _found(model, images, tta="auto"):
        ways[False].append((raster, label, values))
        with open_raster(raster) as image:
            ways[True].append((raster, label, refined(image, values, THRESHOLD)))
    counted = {way: _histograms(found) for way, found in ways.items()}
    usual = np.array([THRESHOLD])
    refine = bool(mean_iou(*counted[True], usual)[0] > mean_iou(*counted[False], usual)[0])
    threshold = THRESHOLD if len(images) < LEAST_IMAGES else best_threshold(*counted[refine])
    return {"temperature": temperature, "threshold": threshold, "refine": refine}


def _found(model: Model, images: Sequence[tuple[Path, Path]], tta: str) -> Iterator[Found]:
    """Images with what the model finds in them."""
    for raster, label in images:
        yield raster, label, predict_raster([model], raster, **AS_PREDICTED, tta=tta)


def _histograms(found: Iterable[Found]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Histograms (images, bins) of the probabilities of pore and of matrix pixels."""
    counted = []
    for _, label, values in found:
        with open_raster(label) as truth:
            counted.append(histograms(values, truth.band(), BINS))
    pore, matrix = zip(*counted, strict=True)
    return np.array(pore), np.array(matrix)


def fit_temperature(pore: NDArray[np.int64], matrix: NDArray[np.int64]) -> float:
    """The temperature of the least cross-entropy, of histograms (images, bins)."""
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
    """The threshold of the highest mean IoU, of histograms (images, bins)."""
    near = np.abs(THRESHOLDS - THRESHOLD)  # of equally good ones the usual
    best = int(np.lexsort((near, -np.round(mean_iou(pore, matrix, THRESHOLDS), 4)))[0])
    return round(float(THRESHOLDS[best]), 2)


def mean_iou(
    pore: NDArray[np.int64], matrix: NDArray[np.int64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean IoU over images that hold pores, by thresholds (T), of histograms (images, bins)."""
    holds = pore.sum(axis=1) > 0
    lower_edges = np.arange(BINS) / BINS
    ious = []
    for threshold in thresholds:
        above = lower_edges >= threshold - 1e-9
        union = pore.sum(axis=1) + matrix[:, above].sum(axis=1)
        ious.append((pore[:, above].sum(axis=1) / union.clip(min=1))[holds].mean())
    return np.array(ious)


def apply_temperature(network: nn.Module, temperature: float) -> None:
    """Divide a network's logits by a temperature, in place, within its last layer.

    So the temperature is in the weights: whoever loads the model gets calibrated logits.
    """
    layer = next(m for m in network.segmentation_head.modules() if isinstance(m, nn.Conv2d))  # type: ignore[union-attr]
    with torch.no_grad():
        layer.weight /= temperature
        if layer.bias is not None:
            layer.bias /= temperature
