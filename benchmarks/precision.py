"""Speed of training and prediction by precision and memory layout, on this machine's CPU.

python benchmarks/precision.py [--encoder NAME] [--rounds N]

Prints speed-ups of a training step and of a prediction over fp32 with channels first. Each
is the best of several rounds; ways alternate, so that a busy machine slows all alike.
"""

import argparse
import time
from collections.abc import Callable

import torch

from poreseg.learning.losses import dice_and_bce
from poreseg.learning.model import autocast, build_network
from poreseg.learning.speed import speed_up

BATCH, SIDE = 8, 256
CPU = torch.device("cpu")
WAYS = {  # name: precision, channels last, `speed_up` as in training
    "fp32, channels first": ("32-true", False, False),
    "fp32, channels last": ("32-true", True, False),
    "fp32, channels last, sped up": ("32-true", True, True),
    "bf16, channels first": ("bf16-mixed", False, False),
    "bf16, channels last": ("bf16-mixed", True, False),
    "bf16, channels last, sped up": ("bf16-mixed", True, True),
}


def prepare(
    encoder: str, precision: str, last: bool, fast: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and a prediction, as functions."""
    layout = torch.channels_last if last else torch.contiguous_format
    network = build_network(encoder).to(memory_format=layout)
    if fast:
        speed_up(network, CPU, precision)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=layout)
    label = torch.randint(0, 2, (BATCH, 1, SIDE, SIDE), dtype=torch.uint8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train() -> None:
        network.train()
        with autocast(CPU, precision):
            logits = network(images)
        dice_and_bce(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()

    def predict() -> None:
        network.eval()
        with torch.inference_mode(), autocast(CPU, precision):
            network(images)

    return train, predict


def main() -> None:
    """Time all ways in turns and print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    calls = {name: prepare(options.encoder, *way) for name, way in WAYS.items()}
    best = {(name, i): float("inf") for name in WAYS for i in (0, 1)}
    for turn in range(options.rounds + 1):  # the first turn warms up
        for name, pair in calls.items():
            for i, call in enumerate(pair):
                start = time.perf_counter()
                call()
                if turn:
                    best[name, i] = min(best[name, i], time.perf_counter() - start)
    first = next(iter(WAYS))
    print(f"{options.encoder}, {BATCH} x {SIDE} px, times faster than {first}")
    print(f"{'':42}{'training':>10}{'prediction':>12}")
    for name in WAYS:
        ratios = [best[first, i] / best[name, i] for i in (0, 1)]
        print(f"{name:42}{ratios[0]:10.2f}{ratios[1]:12.2f}")


if __name__ == "__main__":
    main()
