"""A training step compared with the bare model's and with the loop of smp's examples.

python benchmarks/training.py [--results results] [--rounds N] [--json FILE]

On a finished build's own tiles, encoder and augmentation:

- real: the whole loop of poreseg's train (crops read and augmented, specimens generated, step, average,
  counts); the time of a long training minus that of a short one, so that start, validation and
  export do not count;
- bare: the same step on one batch that is in memory;
- example: the loop of smp's examples on the same network and crops: fp32, channels first,
  Dice loss, Adam, crops from as many worker processes as torch has threads.

They alternate, each in a process of its own, since real and bare change how a process
keeps freed memory. The fastest of the rounds counts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from common import report
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from poreseg.config import read_params
from poreseg.devices import keep_freed_memory
from poreseg.files import read_json
from poreseg.learning.dataset import Crops, Item
from poreseg.learning.losses import dice_and_bce
from poreseg.learning.model import autocast, build_network, normalise, precision_of
from poreseg.learning.pipeline import load_pipeline
from poreseg.learning.speed import speed_up
from poreseg.learning.train import train
from poreseg.names import by_name
from poreseg.tables import read_table
from poreseg.tracking import Silent

CPU = torch.device("cpu")
SHORT, LONG = 10, 50  # steps
PARAMS = read_params(Path(__file__).parents[1] / "params.yaml")


class Build:
    """The training inputs in a finished build's results."""

    def __init__(self, results: Path) -> None:
        self.results = results
        table = read_table(results / "tiles.csv")
        self.names = sorted(table["image"].unique())
        self.rasters = [results / "rasters" / f"{name}.tif" for name in self.names]
        self.labels = [results / "labels" / f"{name}.tif" for name in self.names]
        self.table = table[(table["role"] == "train")]
        self.card = read_json(results / "encoder" / "encoder.json")
        self.pipeline = results / "augment" / "pipeline.json"

    def crops(self, steps: int) -> Dataset[Item]:
        """Augmented crops for `steps` steps."""
        settings = PARAMS.train
        crops = Crops(self.table, by_name(self.rasters), by_name(self.labels), load_pipeline(self.pipeline),
                     pore_share=settings.pore_share, seed=1)  # fmt: skip
        return Subset(crops, range(steps * settings.batch))

    def network(self) -> nn.Module:
        """The network, as it is built."""
        network: nn.Module = build_network(self.card["name"])
        return network


def real(build: Build) -> float:
    """Seconds of a step of the real loop."""
    seconds = {}
    for steps in (SHORT, LONG):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            settings = PARAMS.train.model_dump(exclude={"start"})
            settings |= {"steps": steps, "validate_every": LONG}
            start = time.perf_counter()
            train(
                build.results / "tiles.csv", build.rasters, build.labels, build.pipeline,
                build.results / "encoder" / "encoder.json", build.results / "encoder" / "weights.safetensors", [],
                folder / "model", folder / "history.csv", fold=0, checkpoints=folder / "checkpoints",
                threads=torch.get_num_threads(), tracker=Silent(), **settings,
            )  # fmt: skip
            seconds[steps] = time.perf_counter() - start
    return (seconds[LONG] - seconds[SHORT]) / (LONG - SHORT)


def bare(build: Build) -> float:
    """Seconds of the same step on a batch in memory."""
    keep_freed_memory()
    precision = precision_of(CPU)
    network = build.network().to(memory_format=torch.channels_last).train()
    speed_up(network, CPU, precision)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images, label = next(iter(DataLoader(build.crops(1), PARAMS.train.batch)))

    def step() -> None:
        with autocast(CPU, precision):
            logits = network(normalise(images, build.card["mean"], build.card["std"]))
        dice_and_bce(logits.float(), label[:, None]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _per_step(step for _ in range(LONG))


def example(build: Build) -> float:
    """Seconds of a step of the loop of smp's examples."""
    network = build.network().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss_of = smp.losses.DiceLoss("binary", from_logits=True)
    mean, std = (torch.tensor(build.card[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    loader = DataLoader(build.crops(LONG), PARAMS.train.batch, num_workers=torch.get_num_threads())

    def steps() -> Any:
        for images, label in loader:

            def step(images: Any = images, label: Any = label) -> None:
                loss = loss_of(network((images.float() / 255 - mean) / std), (label == 1).float()[:, None])  # fmt: skip
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

            yield step

    return _per_step(steps())


def _per_step(steps: Any) -> float:
    """Mean seconds per call, waiting for data included, without the first `SHORT` of `LONG`."""
    steps = iter(steps)
    for step in islice(steps, SHORT):
        step()
    start = time.perf_counter()
    for step in steps:
        step()
    return (time.perf_counter() - start) / (LONG - SHORT)


WAYS = {"real": real, "bare": bare, "example": example}


def measured(way: str, results: Path) -> float:
    """Seconds of a step, measured in a process of its own."""
    own = {"CUDA_VISIBLE_DEVICES": "-1"}
    if way != "example":
        own["OMP_WAIT_POLICY"] = "passive"  # as the Snakefile has it
    command = [sys.executable, __file__, "--results", str(results), "--way", way]
    done = subprocess.run(command, env=os.environ | own, stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="print the seconds of this one alone, here")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    build = Build(given.results)
    if given.way:
        print(WAYS[given.way](build))
        return
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(given.rounds):
        for way in WAYS:
            best[way] = min(best[way], measured(way, given.results))
    found = {
        "data_share": 1 - best["bare"] / best["real"],
        "ratio_smp_example": best["example"] / best["real"], "seconds_per_step": best,
    }  # fmt: skip
    print(
        f"{build.card['name']}, batches of {PARAMS.train.batch}, {torch.get_num_threads()} threads"
    )
    print(f"all but the model's step: {100 * found['data_share']:.0f} % of the wall time")
    print(f"times faster than smp's example loop: {found['ratio_smp_example']:.2f}")
    report(found, given.json)


if __name__ == "__main__":
    main()
