"""Pretrain: a U-Net learns about pores from synthetic specimens, before it sees an image."""

import math
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from poreseg.drawn.anything import HIGH_PERCENTILE, LOW_PERCENTILE
from poreseg.files import digest, read_json, sha256, whole
from poreseg.learning.card import THRESHOLD
from poreseg.learning.dataset import APART, Drawn, Item
from poreseg.learning.loop import Recipe, fit
from poreseg.learning.model import EVEN, Model, save_model, start_network
from poreseg.lineage import git_commit
from poreseg.metrics import Counts, count
from poreseg.tables import write_table
from poreseg.tracking import Silent

SIDE = 256  # px, of a specimen
VALIDATION = APART  # specimens to validate on: all up to the first repetition
MADE_OF = (  # modules that determine the model
    "classes.py", "drawn/anything.py", "drawn/fields.py", "learning/card.py", "learning/dataset.py", "learning/loop.py",
    "learning/losses.py", "learning/model.py", "learning/moments.py", "learning/pretrain.py", "learning/speed.py",
    "metrics.py",
)  # fmt: skip


def pretrain(
    encoder_weights: Path | str,
    encoder_card: Path | str,
    model: Path | str,
    *,
    cache: Path | str,
    threads: int,
    workers: int,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Write the model folder of a U-Net trained only on synthetic specimens.

    The model depends on no study: it is kept in the cache, under a digest of all that it
    depends on, and copied from there.

    Parameters
    ----------
    encoder_weights, encoder_card
        What the verb encoder wrote.
    model
        Folder to write: as `train` writes it, and history.csv.
    cache
        Folder of pretrained models, and of what a killed training resumes from.
    threads
        Of the processor, where there is no GPU.
    workers
        Processes that draw.

    The other parameters are the `pretrain` section of params.yaml.
    """
    encoder, package = read_json(encoder_card), Path(__file__).parents[1]
    recipe = Recipe(
        steps=steps, minutes=math.inf, batch=batch, learning_rate=learning_rate, encoder_rate=1.0,
        weight_decay=0.01, warmup=0.05, ema=0.99, validate_every=max(1, steps // 20), patience=steps,
        precision="auto", workers=workers,
    )  # fmt: skip
    settings = [steps, batch, learning_rate, seed]  # the rest of the recipe stands in this file
    key = digest([settings, encoder, [sha256(package / name) for name in MADE_OF]])[:16]
    kept = Path(cache) / key
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):  # another build may want the same
        if not kept.is_dir():
            _learn(kept, encoder, encoder_weights, recipe, seed=seed, threads=threads)
        with whole(model) as folder:
            shutil.copytree(kept, folder)


def _learn(
    out: Path,
    encoder: Mapping[str, Any],
    weights: Path | str,
    recipe: Recipe,
    *,
    seed: int,
    threads: int,
) -> None:
    """Train on drawn specimens and write the model folder."""
    card = {
        "encoder": encoder, "mean": encoder["mean"], "std": encoder["std"],
        "threshold": THRESHOLD, "temperature": 1.0, "fold": None, "images": [], "validation_images": [],
        "start_images": [],
        "low_percentile": LOW_PERCENTILE, "high_percentile": HIGH_PERCENTILE,
        "git_commit": git_commit(), "data_hash": None, "params_hash": out.name, "mlflow_run_id": None,
    }  # fmt: skip
    torch.manual_seed(seed)
    network = start_network(encoder["name"], weights)
    validate = partial(_iou, specimens=[Drawn(SIDE, seed + 1)[i] for i in range(VALIDATION)])
    store = out.with_suffix(".unfinished")
    learned = fit(network, Drawn(SIDE, seed), validate, card, recipe, store,
                  name="pretrain", threads=threads, tracker=Silent())  # fmt: skip
    card |= {"validation_iou": learned.best, "steps": learned.steps,
             "minutes": learned.minutes, "precision": learned.precision}  # fmt: skip
    network.cpu()
    with whole(out) as folder:
        save_model(folder, Model(network, card))
        write_table(folder / "history.csv", learned.table)
    shutil.rmtree(store, ignore_errors=True)


def _iou(model: Model, specimens: list[Item]) -> dict[str, float | None]:
    """Pooled IoU of drawn specimens."""
    counts = Counts()
    for image, label in specimens:
        found = model.probabilities(image.permute(1, 2, 0).numpy()[None])[0]
        counts += count(found >= EVEN, label.numpy())
    return {"drawn": counts.iou}
