"""Plug: all results -> the page."""

from poreseg.analysis.report import report
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    report(
        **dict(snakemake.input.items()),
        page=snakemake.output.page,
        study=snakemake.params.study,
        **snakemake.params.settings,
    )
