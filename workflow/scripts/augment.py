"""Plug: tiles + params -> augmentation pipeline and a contact sheet of examples."""

from poreseg.errors import told_in_one_line
from poreseg.learning.augment import augment

with told_in_one_line(snakemake.log[0]):
    augment(
        snakemake.input.tiles,
        snakemake.input.rasters,
        snakemake.input.labels,
        snakemake.output.pipeline,
        snakemake.output.sheet,
        **snakemake.params.settings,
    )
