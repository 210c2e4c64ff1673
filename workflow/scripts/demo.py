"""Plug: fixed seeds -> the demo study."""

from pathlib import Path

from poreseg.drawn.study import draw_study
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    draw_study(Path(snakemake.output[-1]).parent)
