"""Plug: params -> the encoder's initial weights."""

from poreseg.errors import told_in_one_line
from poreseg.learning.encoder import prepare_encoder

with told_in_one_line(snakemake.log[0]):
    prepare_encoder(snakemake.output.weights, snakemake.output.card, **snakemake.params.settings)
