"""Plug: rasters + labels + split -> pixel counts of the baselines."""

from poreseg.analysis.baselines import baseline
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    baseline(
        snakemake.input.rasters,
        snakemake.input.labels,
        snakemake.output.table,
        split=snakemake.params.split,
        threads=snakemake.threads,
        **snakemake.params.settings,
    )
