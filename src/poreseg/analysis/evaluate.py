"""Evaluate: scores on whole, stitched images, for train, validation and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poreseg.analysis.baselines import read_baselines
from poreseg.analysis.displaced import displaced
from poreseg.analysis.objects import boundary_iou, median_diameter, object_f1
from poreseg.classes import PORE, UNKNOWN
from poreseg.errors import warn
from poreseg.files import read_json, write_json
from poreseg.images.raster import open_raster
from poreseg.metrics import BINS, ROLES, Counts, count, histograms, iou_by_threshold, summarise
from poreseg.tables import write_table

STEPS = 100  # thresholds are multiples of 1/100
Histograms = Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]  # pore, matrix by role


def evaluate(
    masks: Sequence[Path | str],
    probabilities: Sequence[Path | str],
    labels: Sequence[Path | str],
    baselines: Path | str,
    encoder_card: Path | str,
    metrics: Path | str,
    scores: Path | str,
    curve: Path | str,
    calibration: Path | str,
    *,
    split: Sequence[Sequence[Any]],
    specimens: Sequence[str],
    min_area_px: int,
    connectivity: int,
) -> None:
    """Score every labelled image and summarise by role.

    Parameters
    ----------
    masks, probabilities, labels
        Of the labelled images, in the order of `split`.
    baselines
        What the verb baseline wrote.
    encoder_card
        JSON that the verb encoder wrote, for the encoder's name and weights.
    metrics
        JSON to write: by role, means over images with an interval over specimens, pooled
        scores and the calibration error; the same, but calibration, for each baseline; and
        the encoder. An undefined figure is null.
    scores
        CSV to write, one row per image: counts, pixel, outline and object scores, median
        diameters, and the shift at which a displaced label would fit.
    curve
        CSV to write: pooled IoU by threshold, for each role.
    calibration
        CSV to write: share of pores by probability, for each role.
    split
        Rows of image, role and held-out fold.
    specimens
        Specimen of each of these images.
    min_area_px
        Smaller specks are dropped, as in segment, from objects and diameters, labelled ones too.
    connectivity
        Of the pores whose diameters are compared, as in measure.
    """
    roles = [role for _, role, _ in split]
    found, rows = [], []
    for (name, role, _), specimen, mask, label in zip(split, specimens, masks, labels, strict=True):
        with open_raster(mask) as predicted, open_raster(label) as truth:
            pore, known = predicted.band() == PORE, truth.band()
        found.append(count(pore, known))
        shapes = {"boundary_iou": boundary_iou(pore, known), "object_f1": object_f1(pore, known, min_area_px)}  # fmt: skip
        for kind, here in (("", pore & (known != UNKNOWN)), ("label_", known == PORE)):
            shapes[f"{kind}diameter_px"] = median_diameter(here, min_area_px, connectivity)
        rows.append(
            _row(name, specimen, role, found[-1]) | shapes | _place(name, pore, known, found[-1])
        )
    beside = read_baselines(baselines)
    places = {role: [at for at, own in enumerate(roles) if own == role] for role in ROLES}

    def by_role(counts: Sequence[Counts]) -> dict[str, Any]:
        return {
            role: summarise([counts[at] for at in own], [specimens[at] for at in own])
            for role, own in places.items()
        }

    encoder = read_json(encoder_card)
    summary: dict[str, Any] = {
        **by_role(found),
        "baselines": {method: by_role(counts) for method, counts in beside.items()},
        "encoder": encoder["name"],
        "encoder_weights": encoder["source"],
        "encoder_wanted": encoder["wanted"],
    }
    table = pd.DataFrame(rows)
    for method, scored in beside.items():
        table[f"{method}_iou"] = [counts.iou for counts in scored]
    write_table(scores, table)
    counted = count_probabilities(probabilities, labels, roles)
    write_table(curve, threshold_curve(counted))
    reliability = calibration_curve(counted)
    write_table(calibration, reliability)
    for role in ROLES:
        summary[role]["calibration_error"] = calibration_error(reliability, role)
    write_json(metrics, summary)


def _row(name: str, specimen: str, role: str, counts: Counts) -> dict[str, Any]:
    return {
        "image": name, "specimen": specimen, "role": role, "iou": counts.iou, "dice": counts.dice,
        "precision": counts.precision, "recall": counts.recall,
        "porosity": counts.porosity, "label_porosity": counts.label_porosity,
        "true_pore_px": counts.true_pore, "false_pore_px": counts.false_pore,
        "missed_pore_px": counts.missed_pore, "true_matrix_px": counts.true_matrix,
    }  # fmt: skip


def _place(
    name: str, pore: NDArray[np.bool_], known: NDArray[np.uint8], counts: Counts
) -> dict[str, Any]:
    """Columns `fits_*`: the shift at which a displaced label fits, or None; warns of it."""
    better = displaced(pore, known)
    if better:
        warn(f"{name}: its label fits better {better} (IoU {better.iou:.2f} in place of {counts.iou:.2f}); was it drawn on this very image?")  # fmt: skip
    return {f"fits_{key}": getattr(better, key, None) for key in ("rows", "cols", "iou")}


def count_probabilities(
    probabilities: Sequence[Path | str], labels: Sequence[Path | str], roles: Sequence[str]
) -> Histograms:
    """Histograms of the probabilities of pore and matrix pixels, `BINS` bins, by role."""
    found = {role: (np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)) for role in ROLES}
    for path, label, role in zip(probabilities, labels, roles, strict=True):
        with open_raster(path) as raster, open_raster(label) as truth:
            for total, part in zip(found[role], histograms(raster.band(), truth.band(), BINS), strict=True):  # fmt: skip
                total += part
    return found


def threshold_curve(found: Histograms) -> pd.DataFrame:
    """Pooled IoU of each role for thresholds 0.01 to 0.99, without undefined ones."""
    rows = []
    for role, (pore, matrix) in found.items():
        ious = iou_by_threshold(pore, matrix)[:: BINS // STEPS]
        rows += [
            {"role": role, "threshold": step / STEPS, "iou_pooled": ious[step]}
            for step in range(1, STEPS)
            if not np.isnan(ious[step])
        ]
    return pd.DataFrame(rows, columns=["role", "threshold", "iou_pooled"])


def calibration_curve(found: Histograms) -> pd.DataFrame:
    """Reliability curve by role: mean probability and share of pores, in bins of a tenth."""
    rows = []
    middles = (np.arange(BINS) + 0.5) / BINS
    for role, (pore, matrix) in found.items():
        for part in np.split(np.arange(BINS), 10):
            if pixels := int((pore + matrix)[part].sum()):
                rows.append({
                    "role": role, "probability": (pore + matrix)[part] @ middles[part] / pixels,
                    "pore_share": pore[part].sum() / pixels, "pixels": pixels,
                })  # fmt: skip
    return pd.DataFrame(rows, columns=["role", "probability", "pore_share", "pixels"])


def calibration_error(curve: pd.DataFrame, role: str) -> float | None:
    """Expected calibration error (ECE) of a role; None without pixels.

    Mean of |probability - pore share| over bins, weighted by pixels. Naeini et al. 2015,
    "Obtaining well calibrated probabilities using Bayesian binning".
    """
    part = curve[curve["role"] == role]
    if part.empty:
        return None
    return float(np.average((part["probability"] - part["pore_share"]).abs(), weights=part["pixels"]))  # fmt: skip
