"""Plug: any raw image -> canonical raster."""

from poreseg.errors import told_in_one_line
from poreseg.images.ingest import ingest

with told_in_one_line(snakemake.log[0]):
    ingest(
        snakemake.input.image,
        snakemake.output.raster,
        **snakemake.params.sample,
        **snakemake.params.settings,
    )
