"""Plug: encoder -> a U-Net that has learned from drawn specimens."""

from pathlib import Path

from poreseg.devices import own_gpu
from poreseg.errors import told_in_one_line
from poreseg.files import CACHE
from poreseg.learning.pretrain import pretrain
from poreseg.tracking import tracked

with told_in_one_line(snakemake.log[0]), own_gpu(), tracked("drawn specimens") as tracker:
    pretrain(
        snakemake.input.encoder_weights,
        snakemake.input.encoder_card,
        Path(snakemake.output.card).parent,
        cache=CACHE / "pretrained",
        threads=snakemake.threads,
        tracker=tracker,
        **snakemake.params.settings,
    )
