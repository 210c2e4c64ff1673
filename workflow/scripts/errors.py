"""Plug: rasters, masks, labels -> error maps and a sheet of the worst tiles."""

from poreseg.analysis.errors import errors
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    errors(
        **dict(snakemake.input.items()),
        maps=snakemake.output.maps,
        sheet=snakemake.output.sheet,
        split=snakemake.params.split,
        **snakemake.params.settings,
    )
