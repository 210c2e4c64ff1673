"""Plug: probabilities -> mask, overlay and polygons."""

from poreseg.errors import told_in_one_line
from poreseg.prediction.segment import segment

with told_in_one_line(snakemake.log[0]):
    segment(
        snakemake.input.probabilities,
        snakemake.input.raster,
        snakemake.output.mask,
        snakemake.output.overlay,
        snakemake.output.polygons,
        pixel_size_um=snakemake.params.pixel_size_um,
        **snakemake.params.settings,
    )
