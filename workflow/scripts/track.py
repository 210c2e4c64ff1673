"""Plug: scores and pictures -> the MLflow runs of the trainings they come from."""

from poreseg.errors import told_in_one_line
from poreseg.tracking import track

with told_in_one_line(snakemake.log[0]):
    track(
        **dict(snakemake.input.items()),
        record=snakemake.output.record,
        params=snakemake.params.params,
    )
