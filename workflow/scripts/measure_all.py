"""Plug: pores of each image -> porosity and size distributions of all, and of each specimen."""

from poreseg.analysis.morphometry import measure_all, measure_specimens
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    measure_all(
        snakemake.params.names,
        snakemake.input.masks,
        snakemake.input.tables,
        snakemake.output.porosity,
        snakemake.output.sizes,
        samples=snakemake.params.samples,
    )
    measure_specimens(snakemake.output.porosity, snakemake.output.specimens)
