"""Baselines: what a user would have without training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from poreseg.images.raster import open_raster
from poreseg.metrics import Counts, count


def otsu(
    rasters: Sequence[Path | str], labels: Sequence[Path | str], learning: Sequence[bool]
) -> list[Counts]:
    """Otsu's threshold on the gray level of each image, scored against its label.

    Whether pores are dark or bright is one choice for the study, the one with the higher
    pooled IoU on the images marked `learning`; so the baseline is as fair as it can be
    without labels of the test images.
    """
    dark = [_score(raster, label, dark=True) for raster, label in zip(rasters, labels, strict=True)]
    bright = [
        _score(raster, label, dark=False) for raster, label in zip(rasters, labels, strict=True)
    ]
    return dark if _pooled(dark, learning) >= _pooled(bright, learning) else bright


def otsu_pores(
    gray: NDArray[np.uint8], valid: NDArray[np.bool_], *, dark: bool
) -> NDArray[np.bool_]:
    """Pixels (H, W) on the dark or the bright side of Otsu's threshold of the valid ones."""
    values = gray[valid]
    level = threshold_otsu(values) if values.size and values.min() < values.max() else 0
    return valid & ((gray <= level) if dark else (gray > level))


def _score(raster: Path | str, label: Path | str, *, dark: bool) -> Counts:
    with open_raster(raster) as image, open_raster(label) as truth:
        gray = image.rgb8().mean(axis=-1).astype(np.uint8)
        return count(otsu_pores(gray, image.valid(), dark=dark), truth.band())


def _pooled(counts: Sequence[Counts], chosen: Sequence[bool]) -> float:
    total = sum((c for c, used in zip(counts, chosen, strict=True) if used), Counts())
    return total.iou or 0.0
