"""Plug: masks + labels -> scores."""

from poreseg.analysis.evaluate import evaluate
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    evaluate(
        **dict(snakemake.input.items()),
        **dict(snakemake.output.items()),
        split=snakemake.params.split,
        specimens=snakemake.params.specimens,
        min_area_px=snakemake.params.min_area_px,
        connectivity=snakemake.params.connectivity,
    )
