"""IoU of a model on images it was not trained on: as they are, and inverted.

python benchmarks/unseen.py STUDY [STUDY ...] --model FOLDER [--role test] [--json FILE]

A STUDY is a folder of images/, labels/ and samples.csv. The model is compared with Otsu's
threshold in the better of its two polarities, which is an upper bound: it needs the labels.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from common import predicted, report, write_inverse

from poreseg.analysis.baselines import OTSU_WAYS
from poreseg.config import Params, read_params
from poreseg.devices import processors
from poreseg.images.ingest import ingest
from poreseg.images.raster import open_raster
from poreseg.labels.rasterise import rasterise
from poreseg.learning.sliding import Predictor
from poreseg.metrics import count
from poreseg.prediction.engine import load
from poreseg.prediction.segment import find_pores
from poreseg.study import Sample, read_study

ROOT = Path(__file__).parents[1]


def scores(sample: Sample, model: Predictor, params: Params, folder: Path) -> dict[str, Any]:
    """IoU of an image by the model, as it is and inverted, and by Otsu's threshold."""
    raster, label = folder / f"{sample.name}.tif", folder / f"{sample.name}-label.tif"
    reading = {key: getattr(sample, key) for key in ("channel", "plane", "data_bar_px")}
    ingest(sample.image, raster, **reading, **params.ingest.model_dump())
    rasterise(sample.labels, raster, label, image=sample.image.name, plane=sample.plane,
              **params.rasterise.model_dump())  # fmt: skip
    with open_raster(raster) as found, open_raster(label) as truth:
        pixels, valid, known = found.rgb8(), found.valid(), truth.band()
    flipped = folder / f"{sample.name}-inverted.tif"
    write_inverse(raster, flipped)

    def by_model(path: Path) -> float | None:
        found, threshold = predicted(model, path, **params.predict.model_dump())
        return count(
            find_pores(found, params.segment.threshold or threshold, params.segment.min_area_px),
            known,
        ).iou

    gray = pixels.mean(axis=-1).astype(np.uint8)
    otsu = [iou for way in OTSU_WAYS if (iou := count(way(gray, valid), known).iou) is not None]
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
    params, model = read_params(ROOT / "params.yaml"), load(given.model, processors())
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
