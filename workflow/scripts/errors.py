"""Plug: rasters, masks, labels -> pictures of what is wrong."""

from poreseg.analysis.errors import errors
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    errors(
        **{key: value for key, value in snakemake.input.items() if key != "sources"},
        maps=snakemake.output.maps,
        sheet=snakemake.output.sheet,
    )
