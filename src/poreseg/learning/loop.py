"""The optimisation loop: a network, crops to learn from, and a judge of what it has learned."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from poreseg.files import whole
from poreseg.learning.losses import dice_and_bce
from poreseg.learning.model import Model, normalise, precision_of, speed_up
from poreseg.metrics import Counts, count, mean
from poreseg.tracking import Silent

Judge = Callable[[Model], dict[str, float | None]]  # IoU of each image, None where undefined
Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: keys of the `train` section of params.yaml."""

    steps: int
    minutes: float
    batch: int
    learning_rate: float
    encoder_rate: float
    weight_decay: float
    warmup: float
    ema: float
    validate_every: int
    patience: int
    precision: str
    workers: int


@dataclass(frozen=True)
class Learned:
    """What a training did.

    `rows` are the history: step, learning_rate, loss, train_iou (of augmented crops),
    validation_iou (mean of what the judge said), and what it said of each image. `best` is the best mean, None
    without a judge. The time is without validations.
    """

    rows: list[Row]
    best: float | None
    steps: int
    minutes: float
    precision: str
    device: str

    @property
    def table(self) -> pd.DataFrame:
        """The history."""
        return pd.DataFrame(self.rows)


def fit(
    network: nn.Module,
    crops: Dataset[tuple[Tensor, Tensor]],
    judge: Judge | None,
    card: Mapping[str, Any],
    recipe: Recipe,
    store: Path,
    *,
    name: str,
    threads: int,
    tracker: Silent,
) -> Learned:
    """Train a network in place; it ends with the averaged weights that the judge liked best.

    The network stays on the device, in evaluation mode.

    Parameters
    ----------
    network
        An smp network with its start weights.
    crops
        `steps * batch` of them, in the order in which they are learned from.
    judge
        IoU of images that it does not learn from, whose mean decides; None: the last
        weights are kept.
    card
        The model's; mean and std are how it sees images.
    store
        Folder for what a killed training resumes from. Its name is a digest of all that
        this training is made of; the caller removes it when the model is written.
    name
        Before the progress bar.
    threads
        Of the processor, where there is no GPU.
    """
    torch.set_num_threads(threads)
    fabric = Fabric(accelerator="auto", devices=1)
    chosen = precision_of(fabric.device) if recipe.precision == "auto" else recipe.precision
    fabric = Fabric(accelerator="auto", devices=1, precision=chosen)  # type: ignore[arg-type]
    fabric.launch()
    network.to(memory_format=torch.channels_last)
    speed_up(network, fabric.device, chosen)
    wrapped, optimizer = fabric.setup(network, _optimizer(network, recipe))
    mix = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=mix, use_buffers=True)

    # resume
    step, spent, best_step, best = 0, 0.0, 0, None
    best_weights, rows = _weights(network), list[Row]()
    if (store / "last.ckpt").is_file():
        saved = torch.load(store / "last.ckpt", map_location=fabric.device, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        step, spent, best_step, best = (
            saved[key] for key in ("step", "spent", "best_step", "best")
        )
        best_weights, rows = saved["best_weights"], saved["rows"]
        for row in rows:
            _record(tracker, row)
    ended = (
        step >= recipe.steps or spent >= 60 * recipe.minutes or step - best_step >= recipe.patience
    )
    left = range(0 if ended else step * recipe.batch, 0 if ended else recipe.steps * recipe.batch)
    loader = fabric.setup_dataloaders(
        DataLoader(Subset(crops, left), recipe.batch, num_workers=recipe.workers, persistent_workers=recipe.workers > 0),
        use_distributed_sampler=False,
    )  # fmt: skip

    # loop
    bar = tqdm(loader, desc=name, initial=step, total=recipe.steps, unit="step", mininterval=2)
    seen, counts, loss_sum = 0, Counts(), torch.zeros((), device=fabric.device)
    began = time.monotonic() - spent
    for images, label in bar:
        wrapped.train()
        spent = time.monotonic() - began
        progress = max((step + 0.5) / recipe.steps, spent / (60 * recipe.minutes))
        rate = recipe.learning_rate * schedule(progress, recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        logits = wrapped(normalise(images, card["mean"], card["std"]))
        loss = dice_and_bce(logits.float(), label[:, None])
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        step, seen, loss_sum = step + 1, seen + 1, loss_sum + loss.detach()
        counts += count((logits[:, 0] > 0).cpu().numpy(), label.cpu().numpy())
        ended = step == recipe.steps or progress >= 1
        if step % recipe.validate_every and not ended:
            continue

        # judge
        paused = time.monotonic()
        judged = judge(Model(average.module.eval(), dict(card), chosen)) if judge else {}
        iou = mean(list(judged.values()))  # None where nothing can be judged
        row = {"step": step, "learning_rate": rate, "loss": float(loss_sum) / seen, "train_iou": counts.iou,
               "validation_iou": iou, **{f"validation_iou/{name}": judged[name] for name in judged}}  # fmt: skip
        rows.append(row)
        _record(tracker, row)
        bar.set_postfix({"loss": f"{row['loss']:.3f}", "IoU": f"{counts.iou or 0:.2f}"}
                        | ({} if iou is None else {"val_IoU": f"{iou:.3f}"}))  # fmt: skip
        seen, counts, loss_sum = 0, Counts(), torch.zeros((), device=fabric.device)
        if iou is None or best is None or iou > best:
            best, best_step, best_weights = iou, step, _weights(average.module)
        save_checkpoint(store / "last.ckpt", {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state_dict(),
            "step": step, "spent": spent, "best_step": best_step, "best": best, "best_weights": best_weights, "rows": rows,
        })  # fmt: skip
        if ended or step - best_step >= recipe.patience:
            break
        began += time.monotonic() - paused  # a long validation does not cut the schedule short
    bar.close()
    network.load_state_dict(best_weights)
    network.eval()
    return Learned(rows, best, step, round(spent / 60, 2), chosen, fabric.device.type)


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: up in a line, down in a cosine to 0.

    >>> [round(schedule(p / 10, 0.2), 2) for p in range(11)]
    [0.0, 0.5, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (min(progress, 1) - warmup) / (1 - warmup)))


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    with whole(path) as temporary:
        torch.save(dict(state), temporary)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    encoder = [p for key, p in network.named_parameters() if key.startswith("encoder.")]
    rest = [p for key, p in network.named_parameters() if not key.startswith("encoder.")]
    groups = [{"params": encoder, "share": recipe.encoder_rate}, {"params": rest, "share": 1.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def _record(tracker: Silent, row: Row) -> None:
    tracker.metrics({key: row[key] for key in row if key != "step"}, step=row["step"])
