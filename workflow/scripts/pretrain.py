"""Plug: encoder -> a U-Net trained on synthetic specimens."""

from pathlib import Path

from poreseg.devices import own_gpu
from poreseg.errors import told_in_one_line
from poreseg.files import CACHE
from poreseg.learning.pretrain import pretrain

if __name__ == "__main__":  # spawned workers import this file
    with told_in_one_line(snakemake.log[0]), own_gpu():
        pretrain(
            snakemake.input.encoder_weights,
            snakemake.input.encoder_card,
            Path(snakemake.output.card).parent,
            cache=CACHE / "pretrained",
            threads=snakemake.threads,
            workers=snakemake.resources.workers,
            **snakemake.params.settings,
        )
