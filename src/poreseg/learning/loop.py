"""The optimisation loop: a network, crops to learn from, and a judge of what it has learned."""

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

    `rows` are the history: step, learning_rate, loss, train_iou (of what is learned from),
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
    crops: Dataset[Item],
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
        if began is None:  # workers that start are no training: the first rates do not hang on them
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
        judged = judge(Model(average.module.eval(), dict(card), precision)) if judge else {}
        iou = mean(list(judged.values()))  # None where nothing can be judged
        row = {"step": at.step, "learning_rate": rate, "loss": float(loss_sum) / seen, "train_iou": counts.iou,
               "validation_iou": iou, **{f"validation_iou/{name}": judged[name] for name in judged}}  # fmt: skip
        seen, counts, loss_sum = 0, Counts(), torch.zeros((), device=fabric.device)
        _record(tracker, row)
        bar.set_postfix({"loss": f"{row['loss']:.3f}", "IoU": f"{row['train_iou'] or 0:.2f}"}
                        | ({} if iou is None else {"val_IoU": f"{iou:.3f}"}))  # fmt: skip
        at.judged(row, average.module)
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
    """Where a training stands, beside its network and optimiser."""

    best_weights: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    rows: list[Row] = field(default_factory=list)

    def share(self, recipe: Recipe) -> float:
        """How much of the training is over, by steps or by time."""
        return max((self.step + 0.5) / recipe.steps, self.seconds / (60 * recipe.minutes))

    def ended(self, recipe: Recipe) -> bool:
        """Whether steps, time or patience are at their end."""
        late = self.step >= recipe.steps or self.seconds >= 60 * recipe.minutes
        return late or self.step - self.best_step >= recipe.patience

    def judged(self, row: Row, network: nn.Module) -> None:
        """Note a row of the history; keep the weights if they are the best so far."""
        self.rows.append(row)
        iou = row["validation_iou"]
        if iou is None or self.best is None or iou > self.best:
            self.best, self.best_step, self.best_weights = iou, self.step, _weights(network)


def _fabric(precision: str) -> tuple[Fabric, str]:
    """Lightning's Fabric on the fastest device, and the precision it computes in."""
    device = device_of_choice().type
    chosen = precision_of(device) if precision == "auto" else precision
    if device == "cpu" and chosen == "16-mixed":
        chosen = "bf16-mixed"  # what Fabric takes there in its place
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its advice is for programmers
    alone = LightningEnvironment()  # else the tasks of a Slurm job would be taken for its processes
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
        group["fused"] = own["fused"]  # what is fast on this device, not on that one
    for key, part in parts.items():
        part.load_state_dict(saved[key])
    return _Progress(**saved["progress"])


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: up in a line, down in a cosine to 0.

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
