"""Effective receptive field, and the effect of windows and overlap; plots docs/seams.png.

python benchmarks/seams.py --model results/model/all --rasters results/rasters
    [--picture FILE] [--json FILE]

Left: the share of a pixel's gradient that comes from within a distance (its effective
receptive field, Luo et al. 2016), mean over pixels with uncertain predictions. Right: IoU of
the mask stitched from windows with the mask of one pass over the whole image, both by the
engine that the verb predict uses.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from common import mosaic_strips, report
from numpy.typing import NDArray
from tqdm import tqdm

from poreseg.images.raster import open_raster, write_raster
from poreseg.learning.model import load_model, normalise
from poreseg.learning.sliding import predict_raster
from poreseg.prediction.engine import load

mpl.use("Agg")
import matplotlib.pyplot as plt

HEIGHT, WIDTH = 2976, 3968  # px, multiples of 32
FIELD = 1024  # px, side of the part where the receptive field is measured
POINTS = 12
WINDOWS, OVERLAPS = (256, 512, 1024, 2048), (0, 32, 64, 96, 128)


def receptive_field(model: Path, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean share of a logit's gradient within each distance (FIELD,) in px."""
    loaded = load_model(model, torch.device("cpu"))
    part = torch.from_numpy(image[:FIELD, :FIELD].copy()).permute(2, 0, 1)[None]
    pixels = normalise(part, loaded.card["mean"], loaded.card["std"]).requires_grad_()
    logits = loaded.network(pixels)[0, 0]
    edge = FIELD * 7 // 16  # only central pixels, so that the field fits on all sides
    inner = logits[edge:-edge, edge:-edge].detach().abs().flatten()
    unsure = torch.argsort(inner)[:: len(inner) // 20 // POINTS][
        :POINTS
    ]  # from the least certain 5 %
    rows, cols = np.mgrid[:FIELD, :FIELD]
    total = np.zeros(FIELD)
    for place in tqdm(unsure.tolist(), desc="gradients"):
        row, col = place // (FIELD - 2 * edge) + edge, place % (FIELD - 2 * edge) + edge
        (gradient,) = torch.autograd.grad(logits[row, col], pixels, retain_graph=True)
        strength = gradient[0].abs().sum(0).numpy()
        distance = np.maximum(abs(rows - row), abs(cols - col))  # as windows are square
        found = np.bincount(distance.ravel(), strength.ravel(), minlength=FIELD)[:FIELD]
        total += found / found.sum() / POINTS
    return np.cumsum(total)


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("results/model/all"))
    parser.add_argument("--rasters", type=Path, default=Path("results/rasters"))
    parser.add_argument("--picture", type=Path, default=Path("docs/seams.png"))
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    strips = mosaic_strips(sorted(given.rasters.glob("*.tif")), HEIGHT, WIDTH)
    image = np.concatenate([pixels for _, pixels in strips])
    field = receptive_field(given.model, image)

    threshold, found = 0.5, {}
    with tempfile.TemporaryDirectory() as scratch:
        raster = Path(scratch) / "image.tif"
        write_raster(raster, np.moveaxis(image, -1, 0), tags={"LOW": 0, "HIGH": 255})
        with open_raster(raster) as source:
            pixels = source.rgb8()
        model = load(given.model, 2)
        whole = model.probabilities(pixels[None])[0] >= threshold
        for window in tqdm(WINDOWS, desc="windows"):
            for overlap in (overlap for overlap in OVERLAPS if 2 * overlap <= window):
                mask = predict_raster([model], raster, window=window, overlap=overlap, batch=1, tta="none") >= threshold  # fmt: skip
                found[window, overlap] = float((mask & whole).sum() / (mask | whole).sum())
    reach = {
        f"{100 * share:.0f} %": int(np.searchsorted(field, share))
        for share in (0.5, 0.9, 0.95, 0.99)
    }
    print("gradient from within px:", reach)
    for (window, overlap), iou in found.items():
        print(f"window {window:5} overlap {overlap:4}  IoU {iou:.4f}")
    report({"reach_px": reach, "iou_vs_whole": {f"{w}/{o}": iou for (w, o), iou in found.items()}}, given.json)  # fmt: skip

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(field[:400])
    left.set(xlabel="distance, px", ylabel="share of the gradient from within", ylim=(0, 1.02))
    for window in WINDOWS:
        points = [(overlap, iou) for (w, overlap), iou in found.items() if w == window]
        right.plot(*zip(*points, strict=True), marker="o", label=f"windows of {window} px")
    right.set(xlabel="overlap, px", ylabel="IoU with one pass over the whole image")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
