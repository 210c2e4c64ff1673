"""What threshold, refinement, test-time augmentation, refit and polarity gain, without new training.

python benchmarks/choices.py WORK [--runs 'mixed17-*' ...] [--table FILE]

WORK holds finished runs of accuracy.py. Their models predict the test images again, one choice
changed at a time; the last two predict inverted copies. IoU is of the thresholded probabilities
(specks are not removed). Gains over the default (whose threshold is 0.4, whatever a run fitted),
paired by image, for each protocol: means over images, 95 % intervals over specimens.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from accuracy import bounds
from common import predicted, write_inverse
from numpy.typing import NDArray

from poreseg.config import read_params
from poreseg.devices import processors
from poreseg.files import read_json, write_text
from poreseg.images.raster import open_raster
from poreseg.metrics import count
from poreseg.names import stem
from poreseg.prediction.engine import load

ROOT = Path(__file__).parents[1]
DEFAULT = {
    "copy": "as it is",
    "model": "all",
    "threshold": 0.4,
    "tta": "d4",
    "polarity": "auto",
    "refine": "auto",
}
CHOICES: dict[str, dict[str, Any]] = {  # differences from DEFAULT
    "threshold 0.3": {"threshold": 0.3},
    "threshold 0.5": {"threshold": 0.5},
    "refined, all": {"refine": "always"},
    "refined, none": {"refine": "never"},
    "no turns and flips": {"tta": "none"},
    "no refit": {"model": "fold-0"},
    "inverted copies": {"copy": "inverted"},
    "inverted copies, polarity kept": {"copy": "inverted", "polarity": "keep"},
}


def scores(run: Path, scratch: Path) -> pd.DataFrame:
    """IoU of each test image of a run, by default and with each choice."""
    results = run / "results"
    samples = pd.read_csv(run / "study" / "samples.csv", dtype=str)
    settings = read_params(ROOT / "params.yaml").predict.model_dump()
    cores = processors()
    models = {name: load(results / "model" / name, cores) for name in ("all", "fold-0")}
    rows = []
    for sample in samples[samples["split"] == "test"].to_dict("records"):
        name = stem(sample["image"])
        with open_raster(results / "labels" / f"{name}.tif") as label:
            truth = label.band()
        copies = {"as it is": results / "rasters" / f"{name}.tif", "inverted": scratch / f"{name}.tif"}  # fmt: skip
        write_inverse(copies["as it is"], copies["inverted"])
        found: dict[str, NDArray[np.float32]] = {}
        for choice, other in {"default": {}, **CHOICES}.items():
            chosen = DEFAULT | other
            threshold, copy, model = (chosen.pop(key) for key in ("threshold", "copy", "model"))
            if (key := str((copy, model, chosen))) not in found:
                found[key], _ = predicted(models[model], copies[copy], **settings | chosen)
            iou = count(found[key] >= threshold, truth).iou
            rows.append({"image": name, "specimen": sample["specimen"], "choice": choice, "iou": iou})  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Score, pair and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("work", type=Path)
    parser.add_argument("--runs", nargs="+", default=["*-default-*"])
    parser.add_argument("--table", type=Path, help="tables to write, without suffix")
    given = parser.parse_args()
    runs = sorted({run for pattern in given.runs for run in given.work.glob(pattern)})
    everything = []
    for run in (run for run in runs if (run / "results" / "model" / "all").is_dir()):
        protocol = run.name.rsplit("-", 3)[0]
        seed = read_json(run / "results" / "model" / "all" / "poreseg.json")["params_hash"]
        with TemporaryDirectory() as scratch:
            everything.append(scores(run, Path(scratch)).assign(protocol=protocol, run=seed))
        print(everything[-1].groupby("choice", sort=False)["iou"].mean().round(3).to_dict(), run.name, flush=True)  # fmt: skip
    table = pd.concat(everything)
    found = []
    for protocol, group in table.groupby("protocol", sort=False):
        wide = group.pivot_table(index=["specimen", "image", "run"], columns="choice", values="iou")
        for choice in CHOICES:
            gain = (wide[choice] - wide["default"]).dropna().groupby(["specimen", "image"]).mean()
            low, high = bounds(gain.rename("iou").reset_index())
            found.append({
                "protocol": protocol, "choice": choice, "images": len(gain), "runs": group["run"].nunique(),
                "default_iou": wide["default"].mean(), "gain": gain.mean(), "low": low, "high": high,
            })  # fmt: skip
    summary = pd.DataFrame(found)
    markdown = summary.round(3).to_markdown(index=False)
    print(markdown)
    if given.table:
        summary.round(4).to_csv(given.table.with_suffix(".csv"), index=False)
        write_text(given.table.with_suffix(".md"), markdown + "\n")


if __name__ == "__main__":
    main()
