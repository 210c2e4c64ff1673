"""Stitched prediction compared with its peers: the same weights, the same image, one run.

python benchmarks/prediction.py --model results/model/all --rasters results/rasters
    [--height PX] [--width PX] [--rounds N] [--json FILE]

The image is a mosaic of the rasters, every second one mirrored, so that edges fit. Each method
runs in a process of its own, in turns, after an untimed pass over a corner; the fastest round
counts. poreseg's time includes compiling its graph for the image's windows, as for a user. The
peers get the image as a tensor in memory and leave their mask there; poreseg reads a raster and
writes one. Only poreseg itself asks for the polarity and refines the mask by the image's
colours. IoU is that of a mask with the mask of one pass over the whole image, by the same
engine in the same precision (the cost of stitching), and by torch in fp32 (the cost of
stitching and precision).

The peers: MONAI's sliding_window_inference with its Gaussian weights, with windows of 256 px (the
training crop) and 1024 px; nnU-Net's settings (half a window's overlap, Gaussian of an eighth of
the window, one window at a time, no mirroring) through the same function, which does the same;
and a plain loop over tiles, as smp's users write it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import mosaic_strips, peak_mib, report
from numpy.typing import NDArray
from tqdm import tqdm

from poreseg.config import read_params
from poreseg.images.raster import open_raster, write_raster
from poreseg.images.windows import Window
from poreseg.learning.model import autocast, load_model, normalise
from poreseg.learning.sliding import Predictor
from poreseg.prediction.engine import load
from poreseg.prediction.predict import predict_with

CPU = torch.device("cpu")
CORNER = 1024  # px, for the pass that does not count
PEERS = {  # name: window, overlap, windows at a time, precision, channels last, weights
    "MONAI, 256 px, 0.50, fp32": (256, 0.5, 4, "32-true", False, "gaussian"),
    "MONAI, 1024 px, 0.50, fp32": (1024, 0.5, 1, "32-true", False, "gaussian"),
    "MONAI, 256 px, 0.25, same precision": (256, 0.25, 4, "auto", True, "gaussian"),
    "MONAI, 1024 px, 0.25, same precision": (1024, 0.25, 1, "auto", True, "gaussian"),
    "nnU-Net's settings, 512 px, fp32": (512, 0.5, 1, "32-true", False, "gaussian"),
    "nnU-Net's settings, 512 px, autocast": (512, 0.5, 1, "auto", False, "gaussian"),
    "loop over tiles, 256 px, fp32": (256, 0.0, 4, "32-true", False, "constant"),
}
OURS = "poreseg"
ALONE = "poreseg, the network alone"  # without polarity and the image's own colours, as the peers
OURS_ON_TORCH = "poreseg, the network alone, on torch"
WHOLE, WHOLE_SAME, WHOLE_OURS = (
    "whole image, fp32",
    "whole image, same precision",
    "whole image, poreseg's engine",
)
WHOLES = {WHOLE: "32-true", WHOLE_SAME: "auto"}  # precision


class Timed:
    """A predictor that sums the seconds of its forward passes."""

    def __init__(self, model: Predictor) -> None:
        self.model, self.card, self.seen, self.seconds = model, model.card, model.seen, 0.0

    def probabilities(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As the model's."""
        start = time.perf_counter()
        found = self.model.probabilities(windows)
        self.seconds += time.perf_counter() - start
        return found

    def moments(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As the model's, not timed: it is no prediction."""
        return self.model.moments(windows)


def mosaic(rasters: list[Path], path: Path, height: int, width: int) -> None:
    """Write a mosaic as a raster, see `mosaic_strips`."""
    image = np.concatenate([pixels for _, pixels in mosaic_strips(rasters, height, width)])
    write_raster(path, np.moveaxis(image, -1, 0), tags={"LOW": 0, "HIGH": 255})


def ours(
    model: Predictor, raster: Path, **other: str
) -> tuple[Callable[[], NDArray[np.bool_]], Timed]:
    """A prediction by poreseg with the default params but tta: none and `other`, and its timed model."""
    timed, out = Timed(model), raster.with_name("probabilities.tif")
    settings = read_params(Path(__file__).parents[1] / "params.yaml").predict.model_dump()

    def run() -> NDArray[np.bool_]:
        timed.seconds = 0.0
        predict_with([timed], raster, out, **settings | {"tta": "none"} | other)
        return np.empty(0, bool)

    return run, timed


def whole(model: Predictor, raster: Path) -> Callable[[], NDArray[np.bool_]]:
    """One pass over the whole image by poreseg's engine."""
    with open_raster(raster) as source:
        pixels = source.rgb8()[None]
    return lambda: model.probabilities(pixels)[0] >= model.card["threshold"]


def reference_of(method: str) -> str:
    """Name of the whole-image pass with a method's engine and precision."""
    if method in (OURS, ALONE, WHOLE_OURS):
        return WHOLE_OURS
    return (
        WHOLE_SAME
        if method in (OURS_ON_TORCH, WHOLE_SAME) or PEERS.get(method, ("",) * 6)[3] == "auto"
        else WHOLE
    )


def peer(name: str, model: Path, raster: Path) -> Callable[[], NDArray[np.bool_]]:
    """A prediction by a peer, or by torch over the whole image."""
    from monai.inferers import sliding_window_inference

    loaded = load_model(model, CPU)
    with open_raster(raster) as source:
        pixels = torch.from_numpy(source.rgb8()).permute(2, 0, 1)[None]
    if name in WHOLES:
        window, overlap, batch, precision, last, mode = 0, 0.0, 1, WHOLES[name], True, "constant"
    else:
        window, overlap, batch, precision, last, mode = PEERS[name]
    form = torch.channels_last if last else torch.contiguous_format
    network = loaded.network.to(memory_format=form)
    precision = loaded.precision if precision == "auto" else precision

    def run() -> NDArray[np.bool_]:
        images = normalise(pixels, loaded.card["mean"], loaded.card["std"])
        images = images.contiguous(memory_format=form)
        with torch.inference_mode(), autocast(CPU, precision):
            found = network(images) if not window else sliding_window_inference(
                images, window, batch, lambda part: network(part.contiguous(memory_format=form)).float(),
                overlap=overlap, mode=mode,
            )  # fmt: skip
        return (torch.sigmoid(found.float())[0, 0] >= loaded.card["threshold"]).numpy()

    return run


def measure(method: str, model: Path, raster: Path, mask: Path, threads: int) -> dict[str, Any]:
    """Run one method in this process: seconds, peak memory, and the forward passes' share."""
    torch.set_num_threads(threads)
    timed = None
    corner = raster.with_name("corner.tif")
    if method in (OURS, ALONE, OURS_ON_TORCH):
        engine = load_model(model, CPU) if method == OURS_ON_TORCH else load(model, threads)
        other = {} if method == OURS else {"polarity": "keep", "refine": "never"}
        ours(engine, corner, **other)[0]()
        run, timed = ours(engine, raster, **other)
    elif method == WHOLE_OURS:
        run = whole(load(model, threads), raster)
    else:
        peer(method, model, corner)()
        run = peer(method, model, raster)
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    if timed:
        with open_raster(raster.with_name("probabilities.tif")) as source:
            found = source.band() >= timed.card["threshold"]
    np.save(mask, found)
    return {"seconds": seconds, "peak_mib": peak_mib(),
            "forward_share": timed.seconds / seconds if timed else None}  # fmt: skip


def main() -> None:
    """Measure all methods."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("results/model/all"))
    parser.add_argument("--rasters", type=Path, default=Path("results/rasters"))
    parser.add_argument("--height", type=int, default=3008)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # CPU only
    if given.method:
        image, mask = given.folder / "image.tif", given.folder / f"{given.method}.npy"
        print(json.dumps(measure(given.method, given.model, image, mask, given.threads)))
        return

    methods = [*WHOLES, WHOLE_OURS, OURS, ALONE, OURS_ON_TORCH, *PEERS]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mosaic(sorted(given.rasters.glob("*.tif")), folder / "image.tif", given.height, given.width)
        with open_raster(folder / "image.tif") as source:
            part = source.shown(Window(0, 0, CORNER, CORNER))
        write_raster(folder / "corner.tif", np.moveaxis(part, -1, 0), tags={"LOW": 0, "HIGH": 255})
        for method in tqdm([method for _ in range(given.rounds) for method in methods]):
            run = subprocess.run([sys.executable, __file__, "--method", method, "--folder", folder,
                                  "--model", given.model, "--threads", str(given.threads)],
                                 stdout=subprocess.PIPE, check=True, text=True)  # fmt: skip
            new = json.loads(run.stdout.splitlines()[-1])
            if method not in found or new["seconds"] < found[method]["seconds"]:
                found[method] = new
        masks = {method: np.load(folder / f"{method}.npy") for method in methods}
    for method, mask in masks.items():
        for key, reference in (("iou_vs_whole", reference_of(method)), ("iou_vs_fp32", WHOLE)):
            both, either = mask & masks[reference], mask | masks[reference]
            found[method][key] = float(both.sum() / either.sum())

    mpx = given.height * given.width / 1e6
    print(
        f"{given.width} x {given.height} px, pore {100 * masks[WHOLE].mean():.1f} %, {given.threads} threads"
    )
    print(
        f"{'method':38} {'Mpx/s':>6} {'ratio':>6} {'peak MiB':>9} {'IoU':>7} {'vs fp32':>8} {'forward':>8}"
    )
    for method, about in found.items():
        about["mpx_per_s"] = mpx / about["seconds"]
        share = "" if about["forward_share"] is None else f"{100 * about['forward_share']:.0f} %"
        ratio = about["seconds"] / found[OURS]["seconds"]
        print(f"{method:38} {about['mpx_per_s']:6.2f} {ratio:6.2f} {about['peak_mib']:9}"
              f" {about['iou_vs_whole']:7.4f} {about['iou_vs_fp32']:8.4f} {share:>8}")  # fmt: skip
    half, quarter = (
        [found[m] for m in PEERS if m.startswith("MONAI") and way in m] for way in ("0.50", "0.25")
    )
    report({
        "ratio_monai_fp32_050": min(m["seconds"] for m in half) / found[ALONE]["seconds"],
        "ratio_monai_same_025": min(m["seconds"] for m in quarter) / found[ALONE]["seconds"],
        "forward_share": found[ALONE]["forward_share"], "iou_vs_whole": found[ALONE]["iou_vs_whole"],
        "monai_iou_vs_whole": max(m["iou_vs_whole"] for m in quarter), "methods": found,
    }, given.json)  # fmt: skip


if __name__ == "__main__":
    main()
