"""Tile: the windows of a labelled raster, with what each holds. No pixels are copied."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poreseg.classes import PORE, UNKNOWN
from poreseg.errors import PoresegError
from poreseg.images.raster import open_raster
from poreseg.images.windows import grid
from poreseg.tables import read_table, write_table

COLUMNS = ["image", "row", "col", "height", "width", "pore", "known"]


def tile(image: str, label: Path | str, table: Path | str, *, size: int) -> None:
    """List an image's tiles.

    Parameters
    ----------
    image
        Its name.
    label
        Label raster: 0 matrix, 1 pore, 255 unknown.
    table
        CSV to write, one row a tile: image, row, col, height, width in px, and the
        fractions of pore (of the known pixels; empty where none is known) and of known
        pixels (of all).
    size
        Side of a tile in px; tiles at the far borders are cut.
    """
    rows = []
    with open_raster(label) as raster:
        for window in grid(raster.height, raster.width, size):
            values = raster.band(window)
            known = int((values != UNKNOWN).sum())
            pore = int((values == PORE).sum()) / known if known else None
            rows.append([image, window.row, window.col, window.height, window.width,
                         pore, known / values.size])  # fmt: skip
    write_table(table, pd.DataFrame(rows, columns=COLUMNS))


def tile_all(
    tables: Sequence[Path | str], table: Path | str, *, split: Sequence[Sequence[Any]]
) -> None:
    """Join the tiles of the images that a training may depend on, each with its role and held-out fold.

    Parameters
    ----------
    split
        Rows of image, role and fold of these images.

    Raises
    ------
    PoresegError
        No label marks a pore, or none of a fold's training or validation images does.
    """
    tiles = pd.concat([read_table(path) for path in tables])
    roles: Mapping[str, str] = {image: role for image, role, _ in split}
    folds: Mapping[str, int | None] = {image: fold for image, _, fold in split}
    tiles["role"] = tiles["image"].map(roles)
    tiles["fold"] = tiles["image"].map(folds).astype("Int64")
    if not (tiles["pore"] > 0).any():
        raise PoresegError(
            "no label of a training image marks a pore; check the labels' classes with poreseg check"
        )
    for fold, held_out in tiles.dropna(subset="fold").groupby("fold"):
        if not (held_out["pore"] > 0).any():
            names = ", ".join(sorted(held_out["image"].unique()))
            raise PoresegError(
                f"no pore in the validation images of fold {fold} ({names}): IoU is undefined "
                "there. Set another split.seed, a larger split.validation_fraction, or fewer split.folds"
            )
        training = tiles[~tiles["image"].isin(held_out["image"])]
        if not (training["pore"] > 0).any():
            raise PoresegError(
                f"no pore in the training images of fold {fold}: set another split.seed"
            )
    write_table(table, tiles)
