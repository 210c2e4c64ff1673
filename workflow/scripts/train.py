"""Plug: tiles, rasters, labels, pipeline, encoder -> the model of one fold."""

from pathlib import Path

from poreseg.devices import own_gpu
from poreseg.errors import told_in_one_line
from poreseg.learning.train import train
from poreseg.tracking import tracked

if __name__ == "__main__":  # spawned workers import this file
    name = f"{snakemake.params.study} fold {snakemake.wildcards.fold}"
    with told_in_one_line(snakemake.log[0]), own_gpu(), tracked(name) as tracker:
        train(
            **dict(snakemake.input.items()),
            model=Path(snakemake.output.card).parent,
            history=snakemake.output.history,
            fold=int(snakemake.wildcards.fold),
            checkpoints=snakemake.params.checkpoints,
            threads=snakemake.threads,
            workers=snakemake.resources.workers,
            tracker=tracker,
            **snakemake.params.settings,
        )
