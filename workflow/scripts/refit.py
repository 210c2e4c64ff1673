"""Plug: the selected model -> one trained on all but the test images."""

from pathlib import Path

from poreseg.devices import own_gpu
from poreseg.errors import told_in_one_line
from poreseg.learning.card import read_card
from poreseg.learning.train import train
from poreseg.tracking import tracked

if __name__ == "__main__":  # spawned workers import this file
    with told_in_one_line(snakemake.log[0]), own_gpu():
        parent = read_card(Path(snakemake.input.start).parent)["mlflow_run_id"]
        with tracked("refit", parent=parent) as tracker:
            train(
                **dict(snakemake.input.items()),
                model=Path(snakemake.output.card).parent,
                history=snakemake.output.history,
                fold=None,
                checkpoints=snakemake.params.checkpoints,
                threads=snakemake.threads,
                workers=snakemake.resources.workers,
                tracker=tracker,
                **snakemake.params.settings,
            )
