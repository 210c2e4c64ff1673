"""Plug: label raster -> the image's tiles."""

from poreseg.errors import told_in_one_line
from poreseg.images.tiles import tile

with told_in_one_line(snakemake.log[0]):
    tile(
        snakemake.wildcards.image,
        snakemake.input.label,
        snakemake.output.table,
        **snakemake.params.settings,
    )
