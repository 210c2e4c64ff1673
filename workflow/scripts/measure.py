"""Plug: mask -> the image's pores."""

from poreseg.analysis.morphometry import measure
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    measure(snakemake.input.mask, snakemake.output.table, **snakemake.params.settings)
