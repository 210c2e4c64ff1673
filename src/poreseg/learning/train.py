"""Train: a U-Net from a few labelled images, chosen by its IoU on images it has not seen."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from poreseg.files import digest, read_json, sha256, whole
from poreseg.images.raster import open_raster
from poreseg.learning.augment import load_pipeline
from poreseg.learning.dataset import Crops, by_name
from poreseg.learning.losses import dice_and_bce
from poreseg.learning.model import (
    THRESHOLD,
    Model,
    build_network,
    load_model,
    normalise,
    precision_of,
    save_model,
    speed_up,
)
from poreseg.learning.sliding import predict_raster
from poreseg.lineage import data_hash, git_commit
from poreseg.metrics import Counts, count, mean
from poreseg.tables import read_table, write_table
from poreseg.tracking import Silent

VALIDATION = {"window": 512, "overlap": 64, "batch": 4, "tta": "none"}


def train(
    tiles: Path | str,
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    pipeline: Path | str,
    encoder_weights: Path | str,
    encoder_card: Path | str,
    model: Path | str,
    history: Path | str,
    *,
    fold: int,
    checkpoints: Path | str,
    threads: int,
    tracker: Silent,
    steps: int,
    minutes: float,
    batch: int,
    pore_share: float,
    learning_rate: float,
    encoder_rate: float,
    weight_decay: float,
    warmup: float,
    ema: float,
    validate_every: int,
    patience: int,
    precision: str,
    workers: int,
    seed: int,
) -> None:
    """Train the model of one fold.

    Parameters
    ----------
    tiles
        tiles.csv; the fold's held-out images validate, test images are not touched.
    rasters, labels
        Of all labelled images.
    pipeline, encoder_weights, encoder_card
        What the verbs augment and encoder wrote.
    model
        Folder to write: smp's own files and poreseg.json.
    history
        CSV to write: step, learning_rate, loss, train_iou (of augmented crops),
        validation_iou (mean over whole, stitched images).
    checkpoints
        Folder for what a killed training resumes from; emptied when it is done.
    threads
        Of the processor, where there is no GPU.

    The other parameters are the `train` section of params.yaml.
    """
    settings = {
        "steps": steps, "minutes": minutes, "batch": batch, "pore_share": pore_share, "learning_rate": learning_rate,
        "encoder_rate": encoder_rate, "weight_decay": weight_decay, "warmup": warmup, "ema": ema,
        "validate_every": validate_every, "seed": seed, "fold": fold,
    }  # fmt: skip

    # data
    raster_of, label_of = by_name(rasters), by_name(labels)
    table = read_table(tiles)
    table = table[table["role"] != "test"]
    held_out = table["fold"] == fold
    learning, validating = table[~held_out], sorted(table[held_out]["image"].unique())
    used = sorted(table["image"].unique())
    augment, encoder = read_json(pipeline), read_json(encoder_card)
    card: dict[str, Any] = {
        "encoder": encoder, "mean": encoder["mean"], "std": encoder["std"], "threshold": THRESHOLD,
        "fold": fold, "images": sorted(learning["image"].unique()), "validation_images": validating,
        "git_commit": git_commit(), "data_hash": data_hash([p[n] for n in used for p in (raster_of, label_of)]),
        "params_hash": digest([settings, augment, encoder["sha256"]]), "mlflow_run_id": tracker.run_id,
    }  # fmt: skip
    with open_raster(raster_of[used[0]]) as raster:  # how new images are to be stretched
        card |= {
            key: float(raster.tags[key.upper()]) for key in ("low_percentile", "high_percentile")
        }
    crops = Crops(learning, raster_of, label_of, load_pipeline(pipeline),
                  length=steps * batch, pore_share=pore_share, seed=seed + fold)  # fmt: skip

    # device, network, optimiser
    torch.set_num_threads(threads)
    fabric = Fabric(accelerator="auto", devices=1)
    chosen = precision_of(fabric.device) if precision == "auto" else precision
    fabric = Fabric(accelerator="auto", devices=1, precision=chosen)  # type: ignore[arg-type]
    fabric.launch()
    fabric.seed_everything(seed + fold, verbose=False)
    network = build_network(encoder["name"])
    network.encoder.load_state_dict(load_file(encoder_weights))
    network = network.to(memory_format=torch.channels_last)
    speed_up(network, fabric.device, chosen)
    optimizer = torch.optim.AdamW(
        [{"params": list(network.encoder.parameters()), "rate": encoder_rate},
         {"params": [p for n, p in network.named_parameters() if not n.startswith("encoder.")], "rate": 1.0}],
        lr=learning_rate, weight_decay=weight_decay,
    )  # fmt: skip
    wrapped, optimizer = fabric.setup(network, optimizer)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True)  # type: ignore[no-untyped-call]

    # resume
    made_of = [tiles, *rasters, *labels, *sorted(Path(__file__).parent.glob("*.py"))]
    key = digest([card["params_hash"], [sha256(path) for path in made_of]])
    store = Path(checkpoints) / key[:16] / "last.ckpt"
    step, spent, best, stale, rows = 0, 0.0, -1.0, 0, []
    best_weights = {key: value.clone() for key, value in network.state_dict().items()}
    if store.is_file():
        saved = torch.load(store, map_location=fabric.device, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        step, best, stale, rows = saved["step"], saved["best"], saved["stale"], saved["rows"]
        spent, best_weights = saved["seconds"], saved["best_weights"]
        for row in rows:
            record(tracker, row)
    finished = stale >= patience or step >= steps or spent >= 60 * minutes
    left = range(0) if finished else range(step * batch, steps * batch)
    todo = torch.utils.data.Subset(crops, left)
    loader = fabric.setup_dataloaders(
        DataLoader(todo, batch, num_workers=workers, persistent_workers=workers > 0), use_distributed_sampler=False
    )  # fmt: skip
    tracker.params(settings | {"precision": chosen, "device": fabric.device.type})
    tracker.params({f"augment.{key}": value for key, value in augment["settings"].items()})
    tracker.params({f"encoder.{key}": value for key, value in encoder.items()})

    # loop
    bar = tqdm(
        loader, desc=f"train fold {fold}", initial=step, total=steps, unit="step", mininterval=2
    )
    loss_sum, seen, counts = torch.zeros((), device=fabric.device), 0, Counts()
    began = time.monotonic() - spent
    for images, label in bar:
        wrapped.train()
        spent = time.monotonic() - began
        progress = max((step + 0.5) / steps, spent / (60 * minutes))
        rate = learning_rate * schedule(progress, warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        logits = wrapped(normalise(images, encoder["mean"], encoder["std"]))
        loss = dice_and_bce(logits.float(), label[:, None])
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        step, seen, loss_sum = step + 1, seen + 1, loss_sum + loss.detach()
        counts += count((logits[:, 0] > 0).cpu().numpy(), label.cpu().numpy())
        finished = step == steps or progress >= 1
        if step % validate_every and not finished:
            continue

        # choose
        paused = time.monotonic()
        candidate = Model(average.module.eval(), card, chosen)
        iou = validate(candidate, [(raster_of[n], label_of[n]) for n in validating])
        row = {"step": step, "learning_rate": rate, "loss": float(loss_sum) / seen,
               "train_iou": counts.iou, "validation_iou": iou}  # fmt: skip
        rows.append(row)
        loss_sum, seen, counts = torch.zeros((), device=fabric.device), 0, Counts()
        record(tracker, row)
        bar.set_postfix(
            loss=f"{row['loss']:.3f}", IoU=f"{row['train_iou'] or 0:.2f}", val_IoU=f"{iou:.3f}"
        )
        stale += 1
        if iou > best:
            best, stale = iou, 0
            best_weights = {
                k: v.detach().cpu().clone() for k, v in average.module.state_dict().items()
            }
        save_checkpoint(store, {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(),
            "average": average.state_dict(), "step": step, "best": best, "stale": stale, "rows": rows,
            "seconds": spent,
            "best_weights": best_weights,
        })  # fmt: skip
        if finished or stale >= patience:
            break
        began += time.monotonic() - paused  # a long validation does not cut the schedule short
    bar.close()

    # keep the best
    network.load_state_dict(best_weights)
    card |= {
        "validation_iou": best,
        "steps": step,
        "minutes": round(spent / 60, 2),
        "precision": chosen,
    }
    with whole(model) as folder:
        save_model(folder, Model(network, card))
    write_table(history, pd.DataFrame(rows))
    tracker.tags({key: card[key] for key in ("git_commit", "data_hash", "params_hash")})
    tracker.tags({"encoder": encoder["name"], "encoder_weights": encoder["source"]})
    tracker.metrics({"best_validation_iou": best})
    plain = load_model(model, torch.device("cpu")).network
    tracker.model(plain, torch.zeros(1, 3, 64, 64).numpy())
    shutil.rmtree(store.parent, ignore_errors=True)


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: up in a line, down in a cosine to 0.

    >>> [round(schedule(p / 10, 0.2), 2) for p in range(11)]
    [0.0, 0.5, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (min(progress, 1) - warmup) / (1 - warmup)))


def record(tracker: Silent, row: Mapping[str, Any]) -> None:
    """Track one row of the history."""
    tracker.metrics({key: row[key] for key in row if key != "step"}, step=row["step"])


def validate(model: Model, images: Sequence[tuple[Path, Path]]) -> float:
    """Mean IoU over whole, stitched images; those without any pore do not count."""
    ious = []
    for raster_path, label_path in images:
        found = predict_raster([model], raster_path, **VALIDATION)
        with open_raster(label_path) as label:
            ious.append(count(found >= model.card["threshold"], label.band()).iou)
    return mean(ious) or 0.0


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    with whole(path) as temporary:
        torch.save(dict(state), temporary)
