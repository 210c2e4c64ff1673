"""Plug: raster + models -> stitched probabilities."""

from pathlib import Path

from poreseg.devices import own_gpu
from poreseg.errors import told_in_one_line
from poreseg.prediction.predict import predict

with told_in_one_line(snakemake.log[0]), own_gpu():
    predict(
        snakemake.input.raster,
        [Path(card).parent for card in snakemake.input.cards],
        snakemake.output.probabilities,
        threads=snakemake.threads,
        **snakemake.params.settings,
    )
