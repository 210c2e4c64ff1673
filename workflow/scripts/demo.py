"""Plug: a rule and a seed -> the demo study."""

from poreseg.demo.study import draw_study
from poreseg.errors import told_in_one_line

with told_in_one_line(snakemake.log[0]):
    draw_study(snakemake.params.folder)
