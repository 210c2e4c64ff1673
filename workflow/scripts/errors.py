"""Plug: rasters, masks, labels -> pictures of what is wrong."""

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
