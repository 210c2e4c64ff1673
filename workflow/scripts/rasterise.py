"""Plug: any label file + raster -> label raster."""

from poreseg.errors import told_in_one_line
from poreseg.labels.rasterise import rasterise

with told_in_one_line(snakemake.log[0]):
    rasterise(
        snakemake.input.labels,
        snakemake.input.raster,
        snakemake.output.label,
        image=snakemake.params.image,
        plane=snakemake.params.plane,
        part=snakemake.params.part,
        **snakemake.params.settings,
    )
