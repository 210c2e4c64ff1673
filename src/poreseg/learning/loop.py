"""The optimisation loop: trains a network on crops; validated on other images."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from poreseg.devices import keep_freed_memory
from poreseg.files import whole
from poreseg.learning.dataset import Item
from poreseg.learning.losses import dice_and_bce
from poreseg.learning.model import Model, device_of_choice, normalise, precision_of
from poreseg.learning.speed import speed_up
from poreseg.metrics import Counts, count, mean
from poreseg.tracking import Silent

Validate = Callable[[Model], dict[str, float | None]]  # IoU of each image, None where undefined
Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Length and rates of a training: keys of `train` in params.yaml."""

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
    """The outcome of a training.

    `rows` are the history: step, learning_rate, loss, train_iou (of the crops), validation_iou
    (the mean over images), and its IoU of each image, validation_iou/NAME. `best` is the best mean,
    None without validation or a defined IoU. `minutes` exclude validation.
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
    crops: Dataset[Item],
    validate: Validate | None,
    card: Mapping[str, Any],
    recipe: Recipe,
    store: Path,
    *,
    name: str,
    threads: int,
    tracker: Silent,
) -> Learned:
    """Train a network in place; it ends with the averaged weights of the best score.

    The network stays on the device, in evaluation mode.

    Parameters
    ----------
    network
        An smp network with its start weights.
    crops
        `steps * batch` of them, in the order of training.
    validate
        Gives the IoU of each held-out image; the mean selects the weights. None: the last
        weights are kept.
    card
        The model's; its mean and std normalise the images.
    store
        Folder of the checkpoint from which a killed training resumes, named by a digest of
        all inputs of the training; the caller removes it once the model is written.
    name
        Label of the progress bar.
    threads
        Processor threads of torch.
    """
    torch.set_num_threads(threads)
    fabric, precision = _fabric(recipe.precision)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    network.to(memory_format=torch.channels_last)
    speed_up(network, fabric.device, precision)
    wrapped, optimizer = fabric.setup(network, _optimizer(network, recipe, fabric.device))
    mix = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=mix, use_buffers=True)
    parts = {"network": network, "optimizer": optimizer, "average": average}
    at = _resumed(store / "last.ckpt", parts) or _Progress(_weights(network))
    for row in at.rows:
        _record(tracker, row)
    loader = _loader(crops, range(at.step, at.step if at.ended(recipe) else recipe.steps), recipe)
    batches = fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    bar = tqdm(batches, desc=name, initial=at.step, total=recipe.steps, unit="step", mininterval=2)
    seen, counts, loss_sum = 0, Counts(), torch.zeros((), device=fabric.device)
    began: float | None = None
    for images, label in bar:
        if began is None:  # starting the workers must not count as training time in the schedule
            began = time.monotonic() - at.seconds
        wrapped.train()
        at.seconds = time.monotonic() - began
        rate = recipe.learning_rate * schedule(at.share(recipe), recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        logits = wrapped(normalise(images, card["mean"], card["std"]))
        loss = dice_and_bce(logits.float(), label[:, None])
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=1.0, error_if_nonfinite=precision != "16-mixed")  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        at.step, seen, loss_sum = at.step + 1, seen + 1, loss_sum + loss.detach()
        counts += count((logits[:, 0] > 0).cpu().numpy(), label.cpu().numpy())
        if at.step % recipe.validate_every and not at.ended(recipe):
            continue

        paused = time.monotonic()
        ious = validate(Model(average.module.eval(), dict(card), precision)) if validate else {}
        iou = mean(list(ious.values()))
        row = {"step": at.step, "learning_rate": rate, "loss": float(loss_sum) / seen, "train_iou": counts.iou,
               "validation_iou": iou, **{f"validation_iou/{name}": ious[name] for name in ious}}  # fmt: skip
        seen, counts, loss_sum = 0, Counts(), torch.zeros((), device=fabric.device)
        _record(tracker, row)
        bar.set_postfix({"loss": f"{row['loss']:.3f}", "IoU": f"{row['train_iou'] or 0:.2f}"}
                        | ({} if iou is None else {"val_IoU": f"{iou:.3f}"}))  # fmt: skip
        at.validated(row, average.module)
        _save(store / "last.ckpt", parts, at)
        if at.ended(recipe):
            break
        began += time.monotonic() - paused  # a long validation does not cut the schedule short
    bar.close()
    network.load_state_dict(at.best_weights)
    network.eval()
    minutes = round(at.seconds / 60, 2)
    return Learned(at.rows, at.best, at.step, minutes, precision, fabric.device.type)


@dataclass
class _Progress:
    """State of a training besides network, optimiser and average."""

    best_weights: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    rows: list[Row] = field(default_factory=list)

    def share(self, recipe: Recipe) -> float:
        """Completed share of a training: the larger of steps and time."""
        return max((self.step + 0.5) / recipe.steps, self.seconds / (60 * recipe.minutes))

    def ended(self, recipe: Recipe) -> bool:
        """Whether steps, time or patience are at their end."""
        late = self.step >= recipe.steps or self.seconds >= 60 * recipe.minutes
        return late or self.step - self.best_step >= recipe.patience

    def validated(self, row: Row, network: nn.Module) -> None:
        """Add a history row; keep the weights if they are the best so far or unscored."""
        self.rows.append(row)
        iou = row["validation_iou"]
        if iou is None or self.best is None or iou > self.best:
            self.best, self.best_step, self.best_weights = iou, self.step, _weights(network)


def _fabric(precision: str) -> tuple[Fabric, str]:
    """Lightning's Fabric on the fastest device, and the precision it computes in."""
    device = device_of_choice().type
    chosen = precision_of(device) if precision == "auto" else precision
    if device == "cpu" and chosen == "16-mixed":
        chosen = "bf16-mixed"  # as Fabric does on a processor
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its advice is for programmers
    alone = LightningEnvironment()  # else Fabric takes a Slurm job's tasks for its own processes
    fabric = Fabric(accelerator=device, devices=1, precision=chosen, plugins=[alone])  # type: ignore[arg-type]
    fabric.launch()
    return fabric, chosen


def _loader(crops: Dataset[Item], steps: range, recipe: Recipe) -> DataLoader[Item]:
    """The crops of some of the steps."""
    chosen = Subset(crops, range(steps.start * recipe.batch, steps.stop * recipe.batch))
    return DataLoader(chosen, recipe.batch, num_workers=recipe.workers, persistent_workers=recipe.workers > 0)  # fmt: skip


def _save(path: Path, parts: Mapping[str, Any], progress: _Progress) -> None:
    """Write a checkpoint, whole or not at all."""
    with whole(path) as temporary:
        states = {key: part.state_dict() for key, part in parts.items()}
        torch.save(states | {"progress": vars(progress)}, temporary)


def _resumed(path: Path, parts: Mapping[str, Any]) -> _Progress | None:
    """Load a checkpoint into its parts; None where there is none."""
    if not path.is_file():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)  # parts know their own device
    groups = zip(saved["optimizer"]["param_groups"], parts["optimizer"].param_groups, strict=True)
    for group, own in groups:
        group["fused"] = own["fused"]  # the checkpoint may come from another device
    for key, part in parts.items():
        part.load_state_dict(saved[key])
    return _Progress(**saved["progress"])


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, cosine decay to 0.

    >>> [round(schedule(p / 10, 0.2), 2) for p in range(11)]
    [0.0, 0.5, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (min(progress, 1) - warmup) / (1 - warmup)))


def _optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    encoder = [p for key, p in network.named_parameters() if key.startswith("encoder.")]
    rest = [p for key, p in network.named_parameters() if not key.startswith("encoder.")]
    groups = [{"params": encoder, "share": recipe.encoder_rate}, {"params": rest, "share": 1.0}]
    fused = device.type == "cpu" or None  # elsewhere torch chooses: fused ones bar clipping in fp16
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def _record(tracker: Silent, row: Row) -> None:
    tracker.metrics({key: row[key] for key in row if key != "step"}, step=row["step"])
