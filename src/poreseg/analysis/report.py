"""Report: one self-contained page to read, keep and send on."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from poreseg.analysis.displaced import Displaced
from poreseg.analysis.errors import differences, labelled
from poreseg.classes import PORE
from poreseg.files import read_json, write_text
from poreseg.images.raster import open_raster
from poreseg.images.scale import digits
from poreseg.metrics import METHODS, ROLES
from poreseg.names import by_name
from poreseg.prediction.segment import BLUE, paint
from poreseg.tables import read_table

matplotlib.use("svg")  # before pyplot is imported: no display is needed
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "poreseg", "font.size": 10,
                        "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
import matplotlib.pyplot as plt  # noqa: E402

FRAME = (255, 220, 0)  # yellow, around what is not specimen
ORDER = ("test", "validation", "train", "unlabelled")
ROLE_COLOURS = {"train": "#8a8f98", "validation": "#c77d1e", "test": "#1e64ff"}


def report(
    rasters: Sequence[Path | str],
    masks: Sequence[Path | str],
    labels: Sequence[Path | str],
    metrics: Path | str,
    scores: Path | str,
    curve: Path | str,
    calibration: Path | str,
    worst: Path | str,
    porosity: Path | str,
    specimens: Path | str,
    sizes: Path | str,
    histories: Sequence[Path | str],
    cards: Sequence[Path | str],
    sheet: Path | str,
    page: Path | str,
    *,
    study: str,
    image_px: int,
) -> None:
    """Write the page.

    Parameters
    ----------
    rasters, masks
        Of all images, in the same order; `labels` of those that have one, in any order.
    metrics, scores, curve, calibration, worst, porosity, specimens, sizes, histories, cards, sheet
        What evaluate, errors, measure, train and augment wrote.
    page
        HTML to write, pictures and figures embedded.
    study
        Folder of the study, to be shown.
    image_px
        Longest side of the pictures.
    """
    label_of = by_name(labels)
    table = read_table(scores).set_index("image")
    measured = read_table(porosity).set_index("image")
    images: list[dict[str, Any]] = []
    for raster, mask in zip(rasters, masks, strict=True):
        name = Path(raster).stem
        score = _record(table, name)
        images.append({
            "name": name,
            **_about(raster, mask),
            "role": table["role"].get(name, "unlabelled"),
            "score": score,
            "displaced": _displaced(score),
            "porosity": _record(measured, name),
            "pictures": _pictures(raster, mask, label_of.get(name), image_px),
        })  # fmt: skip
    images.sort(key=lambda image: (ORDER.index(image["role"]), image["name"]))
    template = files("poreseg.analysis").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"figure": _figure, "percent": _percent, "digits": digits}
    found, shown = read_json(metrics), read_table(specimens).set_index("specimen")
    kinds = [("U-Net", found), *((METHODS[m], scored) for m, scored in found["baselines"].items())]
    html = environment.from_string(template).render(
        study=study, metrics=found, kinds=kinds, methods=METHODS, roles=ROLES, images=images,
        specimens={name: _record(shown, name) for name in shown.index},
        cards=[read_json(card) for card in cards],
        learning=_svg(_learning_curves, histories), thresholds=_svg(_threshold_curve, curve),
        sizes=_svg(_size_curve, sizes), sheet=_embedded(Image.open(sheet), 1200),
        reliability=_svg(_reliability, calibration), worst=_embedded(Image.open(worst), 1600),
    )  # fmt: skip
    write_text(page, html)


def _record(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """A row as a dict, NaN as None; empty if there is none of this name."""
    if name not in table.index:
        return {}
    row = table.loc[name]
    return {str(key): None if pd.isna(value) else value for key, value in row.items()}


def _displaced(score: dict[str, Any]) -> Displaced | None:
    """The shift at which a displaced label would fit, else None."""
    if score.get("fits_iou") is None:
        return None
    return Displaced(int(score["fits_rows"]), int(score["fits_cols"]), score["fits_iou"])


def _about(raster: Path | str, mask: Path | str) -> dict[str, Any]:
    """Frame, pixel size in micrometres and its source, from the tags."""
    with open_raster(raster) as image, open_raster(mask) as found:
        return {"frame": image.tags.get("FRAME"), "pixel_size_um": found.pixel_size_um,
                "pixel_size_from": found.tags.get("PIXEL_SIZE_FROM")}  # fmt: skip


def _pictures(
    raster: Path | str, mask: Path | str, label: Path | str | None, side: int
) -> list[tuple[str, str]]:
    """Captions and pictures: image and prediction and, with a label, label and differences.

    Thinned to every nth pixel, to fit `side` px; what is not specimen is outlined.
    """
    with open_raster(raster) as image, open_raster(mask) as found:
        step = -(-max(image.height, image.width) // side)
        pixels = image.thinned(image.shown, step)
        pixels[find_boundaries(~image.thinned(image.valid, step), mode="thick")] = FRAME
        pore = found.thinned(found.band, step) == PORE
    if label is None:
        return [
            ("image", _embedded_array(pixels)),
            ("prediction", _embedded_array(paint(pixels, pore))),
        ]
    with open_raster(label) as truth:
        known = truth.thinned(truth.band, step)
    return [
        ("image", _embedded_array(pixels)),
        ("label", _embedded_array(labelled(pixels, known))),
        ("prediction", _embedded_array(paint(pixels, pore))),
        ("differences", _embedded_array(differences(pixels, pore, known))),
    ]


def _embedded_array(pixels: NDArray[np.uint8]) -> str:
    return _embedded(Image.fromarray(pixels), max(pixels.shape))


def _embedded(picture: Image.Image, side: int) -> str:
    """A picture, shrunk to `side` px, as a JPEG data URL."""
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _svg(draw: Any, *arguments: Any) -> str:
    """A figure as SVG text, to be embedded in the page."""
    figure, axes = plt.subplots(figsize=(5, 3.1), layout="constrained")
    try:
        draw(axes, *arguments)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    finally:
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _learning_curves(axes: Any, histories: Sequence[Path | str]) -> None:
    for number, path in enumerate(histories):
        history = read_table(path)
        after = Path(path).stem == "all"  # the refit, which has no validation
        for column, role, name in [("train_iou", "train", "training crops, augmented"),
                                   ("validation_iou", "validation", "validation, whole images")]:  # fmt: skip
            label = {0: name}.get(number, "refit" if after and role == "train" else None)
            axes.plot(history["step"], history[column], marker=".", color=ROLE_COLOURS[role],
                      linestyle="--" if after else "-", label=label)  # fmt: skip
    axes.set(xlabel="step", ylabel="IoU", ylim=(0, 1))
    axes.legend(frameon=False, loc="lower right")


def _threshold_curve(axes: Any, path: Path | str) -> None:
    curve = read_table(path)
    for role, part in curve.groupby("role"):
        axes.plot(part["threshold"], part["iou_pooled"], color=ROLE_COLOURS[str(role)], label=role)
    axes.set(xlabel="threshold of the probability", ylabel="IoU, pooled", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="lower center", ncols=3)


def _reliability(axes: Any, path: Path | str) -> None:
    axes.plot([0, 1], [0, 1], color="#d0d4da", linewidth=1)
    for role, part in read_table(path).groupby("role"):
        axes.plot(part["probability"], part["pore_share"], marker=".", color=ROLE_COLOURS[str(role)], label=role)  # fmt: skip
    axes.set(xlabel="probability that the model gives", ylabel="share that is pore", xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axes.legend(frameon=False, loc="upper left")


def _size_curve(axes: Any, path: Path | str) -> None:
    sizes = read_table(path)
    unit = "um" if len(sizes) and sizes["to_um"].notna().all() else "px"  # um if all have a scale
    for _, part in sizes.groupby("image"):
        axes.plot(part[f"to_{unit}"], part["area_fraction"].cumsum(),
                  color=f"#{BLUE[0]:02x}{BLUE[1]:02x}{BLUE[2]:02x}", alpha=0.35)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=f"equivalent diameter, {'µm' if unit == 'um' else unit}", ylabel="share of pore area below", ylim=(0, 1.02))  # fmt: skip
