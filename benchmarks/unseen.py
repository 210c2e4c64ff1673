"""IoU of a model on images it has not learned from: as they are, and with gray levels inverted.

python benchmarks/unseen.py STUDY [STUDY ...] --model FOLDER [--role test] [--json FILE]

A STUDY is a folder of images/, labels/ and samples.csv. Beside the model stands Otsu's
threshold with the better of its two polarities, which nobody can know without labels.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from common import report
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from poreseg.config import Params, read_params
from poreseg.images.ingest import ingest
from poreseg.images.raster import open_raster, write_raster
from poreseg.labels.rasterise import rasterise
from poreseg.learning.sliding import Predictor, predict_raster
from poreseg.metrics import count
from poreseg.prediction.engine import load
from poreseg.study import Sample, read_study

ROOT = Path(__file__).parents[1]


def scores(sample: Sample, model: Predictor, params: Params, folder: Path) -> dict[str, Any]:
    """One image's IoU by the model, of the inverted image, and by Otsu's threshold."""
    raster, label = folder / f"{sample.name}.tif", folder / f"{sample.name}-label.tif"
    ingest(sample.image, raster, **params.ingest.model_dump())
    rasterise(
        sample.labels, raster, label, image=sample.image.name, **params.rasterise.model_dump()
    )
    with open_raster(raster) as found, open_raster(label) as truth:
        pixels, valid, tags, known = found.shown(), found.valid(), found.tags, truth.band()
    flipped = folder / f"{sample.name}-inverted.tif"
    levels = {**tags, "LOW": 0, "HIGH": 255}
    write_raster(flipped, np.moveaxis(255 - pixels, -1, 0), valid=valid, tags=levels)

    def iou(pore: NDArray[np.bool_]) -> float | None:
        return count(pore, known).iou

    def by_model(path: Path) -> float | None:
        settings = params.predict.model_dump()
        return iou(predict_raster([model], path, **settings) >= model.card["threshold"])

    gray = pixels.mean(axis=-1)
    level = threshold_otsu(gray[valid])
    otsu = [value for value in (iou(gray < level), iou(gray >= level)) if value is not None]
    return {"image": sample.name, "iou": by_model(raster), "inverted": by_model(flipped),
            "otsu_better_polarity": max(otsu, default=None)}  # fmt: skip


def main() -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--role", choices=["train", "test"], help="of samples.csv; all without")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    params, model = read_params(ROOT / "params.yaml"), load(given.model, os.cpu_count() or 1)
    rows = []
    with TemporaryDirectory() as folder:
        for study in given.studies:
            for sample in read_study(study):
                if sample.labels and given.role in (None, sample.role):
                    rows.append({"study": study.name} | scores(sample, model, params, Path(folder)))
                    print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    means = table.groupby("study", sort=False)[["iou", "inverted", "otsu_better_polarity"]].mean()
    print(means.round(3).to_markdown())
    report({"model": str(given.model), "means": means.to_dict("index"), "images": rows}, given.json)


if __name__ == "__main__":
    main()
