"""Plug: tiles of each image -> tiles of all, with role and fold."""

from poreseg.errors import told_in_one_line
from poreseg.images.tiles import tile_all

with told_in_one_line(snakemake.log[0]):
    tile_all(snakemake.input.tables, snakemake.output.table, split=snakemake.params.split)
