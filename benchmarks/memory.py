"""Peak memory of prediction, segmentation and measurement on images of growing height.

python benchmarks/memory.py --model results/model/all --rasters results/rasters
    [--megapixels 10 100 1000] [--width PX] [--verbs predict segment measure] [--json FILE]

The images, all of one width, are mosaics of the rasters, written strip by strip; each verb
runs in a process of its own, with the default params but tta: none. Peak memory must not grow
with the height: `growth` is the ratio of the last two images' peaks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import mosaic_strips, peak_mib, report

from poreseg.config import read_params
from poreseg.images.raster import new_raster, to_rasterio

VERBS = ("predict", "segment", "measure")


def draw(rasters: list[Path], path: Path, height: int, width: int) -> None:
    """Write a mosaic of rasters as a canonical raster, strip by strip."""
    with new_raster(path, (3, height, width), np.uint8, tags={"LOW": 0, "HIGH": 255}) as target:
        for window, pixels in mosaic_strips(rasters, height, width):
            target.write(np.moveaxis(pixels, -1, 0), window=to_rasterio(window))


def work(verb: str, model: Path, folder: Path) -> None:
    """Run a verb in this process and print its seconds and its peak memory in MiB."""
    params = read_params(Path(__file__).parents[1] / "params.yaml")
    settings = getattr(params, verb).model_dump()
    image, probabilities, mask = (folder / f"{name}.tif" for name in ("image", "p", "mask"))
    start = time.perf_counter()
    if verb == "predict":
        from poreseg.prediction.predict import predict

        predict(image, [model], probabilities, threads=2, **settings | {"tta": "none"})
    elif verb == "segment":
        from poreseg.prediction.segment import segment

        segment(probabilities, image, mask, folder / "o.png", folder / "p.geojson", **settings)
    else:
        from poreseg.analysis.morphometry import measure

        measure(mask, folder / "pores.csv", **settings)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}))


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("results/model/all"))
    parser.add_argument("--rasters", type=Path, default=Path("results/rasters"))
    parser.add_argument("--megapixels", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=["predict"])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        work(given.verbs[0], given.model, given.folder)
        return
    found: dict[str, Any] = {verb: {} for verb in given.verbs}
    print(f"{'verb':8} {'Mpx':>6} {'Mpx/s':>7} {'peak MiB':>9}")
    for megapixels in given.megapixels:
        with tempfile.TemporaryDirectory() as scratch:
            folder, height = Path(scratch), megapixels * 1_000_000 // given.width
            draw(sorted(given.rasters.glob("*.tif")), folder / "image.tif", height, given.width)
            for verb in given.verbs:
                run = subprocess.run([sys.executable, __file__, "--verbs", verb, "--folder", folder,
                                      "--model", given.model], stdout=subprocess.PIPE, check=True,
                                     text=True)  # fmt: skip
                about = json.loads(run.stdout.splitlines()[-1])
                found[verb][megapixels] = about
                print(f"{verb:8} {megapixels:6} {megapixels / about['seconds']:7.2f}"
                      f" {about['peak_mib']:9}", flush=True)  # fmt: skip
    for about in found.values():
        peaks = [about[megapixels]["peak_mib"] for megapixels in given.megapixels]
        about["growth"] = peaks[-1] / peaks[-2] if len(peaks) > 1 else None
    print({verb: about["growth"] for verb, about in found.items()})
    report(found, given.json)


if __name__ == "__main__":
    main()
