"""IoU of poreseg and of its baselines on real studies, through the real pipeline.

python benchmarks/accuracy.py DATA WORK [--protocols NAME ...] [--seeds 1 2 3]
    [--methods 'NAME={"train": {"steps": 300}}' ...] [--moved FILE] [--cores N] [--done-only] [--table FILE]

DATA holds studies (folders of images/, labels/, samples.csv) and WORK gets a folder per run;
finished runs are not repeated, so that a stopped benchmark continues where it was.
A method is a change of params.yaml, as JSON; `default` is none. Protocols:

- `mixed17`: split as in samples.csv;
- `thinsection`, `fdm-photo`, `mudrock-sem`: three folds of specimens, each image scored once
  by a model neither trained nor selected on its specimen;
- `sandstone-ct`: trained on slices 0 to 150, tested on 250 to 400 of one core: scores are too high;
- `without-NAME`: trained on all studies but NAME, tested on NAME;
- `labels-N`: mixed17 with only N of its training images (N of 1, 2, 4, 8).

With --moved, each protocol with labels listed in FILE (study, image, rows, cols; in
benchmarks/moved.csv the displaced ones of docs/accuracy.md) also runs as `NAME-moved`, with these
labels shifted by as many px down and to the right, for training and for test.

Writes WORK/runs.csv (a row per image, run and method), and TABLE.csv and TABLE.md: means over
images, each the mean of its seeds, with 95 % intervals over specimens; and TABLE-paired, what
each method gains over the first one, on the same images with the same seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from poreseg.classes import UNKNOWN
from poreseg.config import read_params
from poreseg.errors import PoresegWarning
from poreseg.files import digest, read_json, sha256, write_text
from poreseg.metrics import METHODS, Counts, interval
from poreseg.names import stem
from poreseg.split import split_study
from poreseg.study import Sample, read_study
from poreseg.tables import read_table

ROOT = Path(__file__).parents[1]
FOLDED, FOLDS = ("thinsection", "fdm-photo", "mudrock-sem"), 3
STUDIES = (*FOLDED, "sandstone-ct")
CURVE = (1, 2, 4, 8)  # training images
COUNTS = ("true_pore_px", "false_pore_px", "missed_pore_px", "true_matrix_px")


@dataclass(frozen=True)
class Item:
    """A labelled image, its role ("train" or "test"), and the shift of its label."""

    study: str
    sample: Sample
    role: str
    move: tuple[int, int] = (0, 0)  # px down and to the right


def protocols(data: Path) -> dict[str, list[list[Item]]]:
    """Splits of each protocol: one, or one per fold."""
    found = {"mixed17": [_items(data, "mixed17")]}
    found |= {study: list(_folded(data, study)) for study in FOLDED}
    core = _items(data, "sandstone-ct")
    found["sandstone-ct"] = [
        [replace(item, role="train" if slice_ <= 150 else "test")
         for item in core if (slice_ := int(item.sample.name[-4:])) <= 150 or slice_ >= 250]
    ]  # fmt: skip
    for left_out in STUDIES:
        found[f"without-{left_out}"] = [
            [replace(item, role="test" if study == left_out else "train")
             for study in STUDIES for item in _items(data, study)]
        ]  # fmt: skip
    mixed = found["mixed17"][0]
    training = [item for item in mixed if item.role == "train"]
    for number in CURVE:
        spread = [training[i * len(training) // number] for i in range(number)]
        found[f"labels-{number}"] = [spread + [item for item in mixed if item.role == "test"]]
    return found


def _items(data: Path, study: str) -> list[Item]:
    samples = [sample for sample in read_study(data / study) if sample.labels]
    return [Item(study, s, "test" if s.role == "test" else "train") for s in samples]


def _folded(data: Path, study: str) -> Iterator[list[Item]]:
    """One split per fold, whose images are for test."""
    items = _items(data, study)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoresegWarning)  # "no test images": each fold is, in turn
        drawn = split_study([item.sample for item in items], data / study, by="specimen", test_fraction=0.0,
                            folds=FOLDS, validation_fraction=0.0, seed=1)  # fmt: skip
    for fold in range(FOLDS):
        yield [replace(item, role="test" if drawn[item.sample.name].fold == fold else "train") for item in items]  # fmt: skip


def with_moves(items: list[Item], moves: pd.DataFrame) -> list[Item]:
    """The items, with the shifts listed in `moves`."""
    by_image = {(row.study, row.image): (row.rows, row.cols) for row in moves.itertuples()}
    return [replace(item, move=by_image.get((item.study, item.sample.name), (0, 0))) for item in items]  # fmt: skip


def files_of(items: list[Item]) -> list[list[Any]]:
    """Role, file digests and shift of each item, for the key of a run."""
    return [[item.role, sha256(item.sample.image), *map(sha256, item.sample.labels), *(item.move if any(item.move) else ())]
            for item in items]  # fmt: skip


def lay_out(items: list[Item], folder: Path) -> None:
    """Write a study of links to the items' files (copies of shifted labels), and samples.csv."""
    rows = []
    several = len({item.study for item in items}) > 1  # their images may share names
    for item in items:
        image, (label,) = item.sample.image, item.sample.labels
        name = f"{item.study}-{image.name}" if several else image.name
        for kind, path, to in (("images", image, name), ("labels", label, f"{stem(name)}{label.suffix}")):  # fmt: skip
            (folder / kind).mkdir(parents=True, exist_ok=True)
            link = folder / kind / to
            link.unlink(missing_ok=True)
            if kind == "labels" and any(item.move):
                Image.fromarray(_moved(np.asarray(Image.open(path)), *item.move)).save(link)
            else:
                link.symlink_to(path.resolve())
        specimen = f"{item.study}-{item.sample.specimen}" if several else item.sample.specimen
        rows.append({"image": name, "specimen": specimen, "split": item.role})
    write_text(folder / "samples.csv", pd.DataFrame(rows).to_csv(index=False))


def _moved(label: NDArray[np.uint8], rows: int, cols: int) -> NDArray[np.uint8]:
    """A label (H, W) shifted in px down and to the right; pixels moved in are unknown.

    >>> _moved(np.array([[1, 0], [0, 1]], np.uint8), -1, 0).tolist()
    [[0, 1], [255, 255]]
    """
    far = max(abs(rows), abs(cols))
    around = np.pad(label, far, constant_values=UNKNOWN)
    height, width = label.shape
    return around[far - rows : far - rows + height, far - cols : far - cols + width]


def run(
    items: list[Item], folder: Path, change: dict[str, Any], seed: int, cores: str
) -> pd.DataFrame:
    """Scores of a run's images by network and baselines, and its minutes; builds if needed."""
    study, results = folder / "study", folder / "results"
    if not (results / "metrics.json").is_file():
        lay_out(items, study)
        params = {**change, "train": {**change.get("train", {}), "seed": seed}}
        train_on, test_on = ({(i.study, i.sample.specimen) for i in items if i.role == role} for role in ("train", "test"))  # fmt: skip
        if (
            train_on & test_on or len(train_on) == 1
        ):  # one specimen on both sides, or only one to train on
            params["split"] = {**change.get("split", {}), "by": "image"}
        command = [sys.executable, "-m", "snakemake", "--cores", cores, str(results / "metrics.json"), "--config", f"study={study}",
                   f"results={results}", *(f"{key}={json.dumps(value)}" for key, value in params.items())]  # fmt: skip
        with (folder / "log.txt").open("w") as log:
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True,
                           env=os.environ | {"MLFLOW_TRACKING_URI": "none"})  # fmt: skip
    scores = read_table(results / "scores.csv")
    cards = [read_json(path) for path in (results / "model").glob("*/poreseg.json")]
    return scores.assign(minutes=sum(card["minutes"] for card in cards))


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean scores of the test images, a row per protocol and method."""
    found = []
    for (protocol, method), group in rows.groupby(["protocol", "method"], sort=False):
        images = group.groupby(["specimen", "image"], as_index=False)[
            ["iou", "dice", "boundary_iou", "object_f1", "error", "minutes"]
        ].mean()
        low, high = np.clip(bounds(images), 0, 1)
        pooled = Counts(*(int(group[column].sum()) for column in COUNTS))
        found.append({
            "protocol": protocol, "method": method, "seeds": group["seed"].nunique(),
            "images": len(images), "specimens": images["specimen"].nunique(),
            "iou": images["iou"].mean(), "low": low, "high": high, "least": images["iou"].min(),
            "iou_pooled": pooled.iou, "dice": images["dice"].mean(), "boundary_iou": images["boundary_iou"].mean(),
            "object_f1": images["object_f1"].mean(),
            "porosity_error": images["error"].mean(), "minutes": images["minutes"].mean(),
        })  # fmt: skip
    return pd.DataFrame(found)


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Gain in IoU of each method over the first one, on the same images with the same seeds."""
    found = []
    for protocol, group in rows[~rows["method"].isin(METHODS)].groupby("protocol", sort=False):
        wide = group.pivot_table(index=["specimen", "image", "seed"], columns="method", values="iou", sort=False)  # fmt: skip
        first, *others = group["method"].unique()
        for method in others:
            gain = (wide[method] - wide[first]).dropna()
            images = gain.groupby(["specimen", "image"]).mean().rename("iou").reset_index()
            low, high = bounds(images)
            found.append({
                "protocol": protocol, "method": method, "against": first, "images": len(images),
                "seeds": gain.index.get_level_values("seed").nunique(), "gain": images["iou"].mean(),
                "low": low, "high": high, "share_better": (images["iou"] > 0).mean(),
            })  # fmt: skip
    return pd.DataFrame(found)


def bounds(images: pd.DataFrame) -> tuple[float, float]:
    """95 % interval of the mean IoU of images, over specimens; NaN if there is only one."""
    defined = images.dropna(subset="iou")
    found = interval([*defined["iou"]], [*defined["specimen"]])
    return (found[0], found[1]) if found else (float("nan"), float("nan"))


def long(scores: pd.DataFrame, method: str, *, baselines: bool) -> pd.DataFrame:
    """Scores of the test images, a row for the network and, if wanted, for each baseline."""
    test = scores[scores["role"] == "test"]
    network = test.assign(method=method, error=(test["porosity"] - test["label_porosity"]).abs())
    found = [network]
    if baselines:
        plain = test[["image", "specimen", "role"]].assign(minutes=0.0)
        found += [plain.assign(method=name, iou=test[f"{name}_iou"]) for name in METHODS]
    return pd.concat(found)


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--protocols", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=["default"])
    parser.add_argument("--moved", type=Path, help="CSV of labels to move")
    parser.add_argument("--cores", default="all", help="of a run, as snakemake takes them")
    parser.add_argument("--done-only", action="store_true", help="tables of what has run")
    parser.add_argument("--table", type=Path, help="tables to write, without suffix")
    given = parser.parse_args()
    known = protocols(given.data)
    if given.moved:
        moves = pd.read_csv(given.moved, dtype={"image": str})
        images = {(item.study, item.sample.name) for splits in known.values() for item in splits[0]}
        if lost := set(zip(moves["study"], moves["image"], strict=True)) - images:
            parser.error(
                f"{given.moved}: no image {', '.join(map('/'.join, lost))} in {given.data}"
            )
        moved = {name: [with_moves(items, moves) for items in splits] for name, splits in known.items()}  # fmt: skip
        known |= {f"{name}-moved": splits for name, splits in moved.items() if splits != known[name]}  # fmt: skip
    chosen = given.protocols or list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"no protocol {', '.join(unknown)}; known are {', '.join(known)}")
    shipped = read_params(ROOT / "params.yaml").model_dump(mode="json")
    code = [sha256(path) for path in [ROOT / "Snakefile", *sorted((ROOT / "src").rglob("*.py"))]]
    rows = []
    for seed in given.seeds:  # outermost, so that a stopped benchmark covers all protocols
        for protocol in chosen:
            for number, given_method in enumerate(given.methods):
                method, _, change = given_method.partition("=")
                for fold, items in enumerate(known[protocol]):
                    settings = json.loads(change or "{}")
                    key = digest([shipped, settings, seed, code, files_of(items)])[:8]
                    folder = given.work.resolve() / f"{protocol}-{fold}-{method}-{key}"
                    if given.done_only and not (folder / "results" / "scores.csv").is_file():
                        continue
                    folder.mkdir(parents=True, exist_ok=True)
                    print(f"{protocol} {fold}, {method}, seed {seed}: ", end="", flush=True)
                    scores = run(items, folder, settings, seed, given.cores)
                    found = long(scores, method, baselines=number == 0 and seed == given.seeds[0])
                    rows.append(found.assign(protocol=protocol, seed=seed, fold=fold))
                    print(f"IoU {found[found['method'] == method]['iou'].mean():.3f}", flush=True)
    everything = pd.concat(rows)
    everything.to_csv(given.work / "runs.csv", index=False)
    for suffix, table in (("", summarise(everything)), ("-paired", paired(everything))):
        markdown = table.round(3).to_markdown(index=False)
        print(markdown, end="\n\n")
        if given.table:
            to = given.table.with_name(given.table.name + suffix)
            table.round(4).to_csv(to.with_suffix(".csv"), index=False)
            write_text(to.with_suffix(".md"), markdown + "\n")


if __name__ == "__main__":
    main()
