"""Baselines: segmentation without a network, scored on the same split."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.filters import threshold_otsu, threshold_sauvola

from poreseg.analysis import forest
from poreseg.images.raster import open_raster
from poreseg.metrics import METHODS, Counts, count
from poreseg.tables import read_table, write_table

Way = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.bool_]]
SAUVOLA = [(window, k) for window in (31, 101) for k in (0.1, 0.3)]  # px; weight of deviation


def baseline(
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    table: Path | str,
    *,
    split: Sequence[Sequence[Any]],
    threads: int,
    pixels: int,
    trees: int,
    seed: int,
) -> None:
    """Score each baseline on every labelled image.

    Parameters
    ----------
    rasters, labels
        Of the labelled images, in the order of `split`.
    table
        CSV to write: image, method (a key of `METHODS`) and its pixel counts.
    split
        Rows of image, role and held-out fold.
    threads
        CPU threads for the forests.

    The other parameters are the `baseline` section of params.yaml.
    """
    learning = [role != "test" for _, role, _ in split]
    found = {
        "otsu": thresholded(rasters, labels, learning, OTSU_WAYS),
        "sauvola": thresholded(rasters, labels, learning, SAUVOLA_WAYS),
        "random_forest": learned(
            rasters, labels, split, threads=threads, pixels=pixels, trees=trees, seed=seed
        ),
    }
    rows = [
        {"image": name, "method": method, **asdict(counts)}
        for method, scored in found.items()
        for (name, _, _), counts in zip(split, scored, strict=True)
    ]
    write_table(table, pd.DataFrame(rows))


def read_baselines(table: Path | str) -> dict[str, list[Counts]]:
    """Counts of each method, image by image, as `baseline` wrote them."""
    found: dict[str, list[Counts]] = {method: [] for method in METHODS}
    for row in read_table(table).to_dict("records"):
        found[row["method"]].append(
            Counts(**{str(k): int(v) for k, v in row.items() if k not in ("image", "method")})
        )
    return found


def thresholded(
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    learning: Sequence[bool],
    ways: Sequence[Way],
) -> list[Counts]:
    """Counts per image of the thresholding in `ways` that suits the study best.

    That is the one with the highest pooled IoU on the images marked `learning`: the
    strongest baseline that can be selected without labels of the test images.
    """
    found: list[list[Counts]] = [[] for _ in ways]
    for raster, label in zip(rasters, labels, strict=True):
        with open_raster(raster) as image, open_raster(label) as truth:
            gray = image.rgb8().mean(axis=-1).astype(np.uint8)
            valid, known = image.valid(), truth.band()
        for way, scored in zip(ways, found, strict=True):
            scored.append(count(way(gray, valid), known))
    return max(found, key=lambda counts: _pooled(counts, learning))


def otsu_pores(
    gray: NDArray[np.uint8], valid: NDArray[np.bool_], *, dark: bool
) -> NDArray[np.bool_]:
    """Pixels (H, W) on the dark or the bright side of Otsu's threshold of the valid ones."""
    values = gray[valid]
    level = threshold_otsu(values) if values.size and values.min() < values.max() else 0
    return valid & ((gray <= level) if dark else (gray > level))


def sauvola_pores(
    gray: NDArray[np.uint8], valid: NDArray[np.bool_], *, dark: bool, window: int, k: float
) -> NDArray[np.bool_]:
    """Pixels (H, W) that are darker, or brighter, than their surroundings (Sauvola 2000)."""
    shown = gray if dark else 255 - gray
    if valid.any():  # masked pixels are black and would shift local thresholds
        shown = np.where(valid, shown, np.median(shown[valid]).astype(np.uint8))
    return valid & (shown < threshold_sauvola(shown, window, k))


OTSU_WAYS: list[Way] = [partial(otsu_pores, dark=dark) for dark in (True, False)]
SAUVOLA_WAYS: list[Way] = [
    partial(sauvola_pores, dark=dark, window=window, k=k)
    for dark in (True, False) for window, k in SAUVOLA
]  # fmt: skip


def learned(
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    split: Sequence[Sequence[Any]],
    *,
    threads: int,
    pixels: int,
    trees: int,
    seed: int,
) -> list[Counts]:
    """Counts per image of random forests, cross-validated like the networks.

    A held-out image is scored by a forest that was not trained on it, all others by a forest
    trained on all but the test images or, with several folds, by the mean of their forests.
    """
    folds = sorted({fold for _, _, fold in split if fold is not None})
    together: list[int | None] = [*folds] if len(folds) > 1 else [None]
    forests = {}
    for held_out in {*folds, *together}:
        chosen = [i for i, (_, role, fold) in enumerate(split) if role != "test" and (held_out is None or fold != held_out)]  # fmt: skip
        forests[held_out] = forest.learn(
            [rasters[i] for i in chosen], [labels[i] for i in chosen],
            threads=threads, pixels=pixels, trees=trees, seed=seed,
        )  # fmt: skip
    return [
        forest.score([forests[f] for f in (together if fold is None else [fold])], raster, label)
        for (_, _, fold), raster, label in zip(split, rasters, labels, strict=True)
    ]


def _pooled(counts: Sequence[Counts], chosen: Sequence[bool]) -> float:
    total = sum((c for c, used in zip(counts, chosen, strict=True) if used), Counts())
    return total.iou or 0.0
