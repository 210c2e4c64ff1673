"""Augment: write the pipeline, and a contact sheet of augmented crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from poreseg.classes import PORE
from poreseg.files import whole
from poreseg.learning.dataset import Crops
from poreseg.learning.pipeline import load_pipeline, write_pipeline
from poreseg.names import by_name
from poreseg.tables import read_table

ROWS, COLUMNS = 6, 6
OUTLINE = (255, 220, 0)


def augment(
    tiles: Path | str,
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    pipeline: Path | str,
    sheet: Path | str,
    **settings: Any,
) -> None:
    """Write the pipeline and a contact sheet.

    Parameters
    ----------
    tiles, rasters, labels
        tiles.csv, and the rasters of its images.
    pipeline
        JSON to write (`write_pipeline`); train loads this very file.
    sheet
        PNG to write: in each row a random crop (with pores, if any), as it is and in five
        random augmentations, the labelled pores outlined in yellow.

    The other parameters are the `augment` section of params.yaml.
    """
    write_pipeline(pipeline, **settings)
    loaded = load_pipeline(pipeline)
    crops = Crops(read_table(tiles), by_name(rasters), by_name(labels), loaded,
                  pore_share=1.0, seed=0)  # fmt: skip
    rows = []
    for index in range(ROWS):
        image, label = crops.source(np.random.default_rng(index))
        margin = (loaded.source_px - loaded.crop_px) // 2
        middle = slice(margin, margin + loaded.crop_px)
        drawn = [loaded(image, label, seed) for seed in range(COLUMNS - 1)]
        cells = [(image[middle, middle], label[middle, middle]), *drawn]
        rows.append(np.hstack([_outlined(*cell) for cell in cells]))
    with whole(sheet) as temporary:
        Image.fromarray(np.vstack(rows)).save(temporary)


def _outlined(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    done = image.copy()
    done[find_boundaries(label == PORE, mode="inner")] = OUTLINE
    return np.pad(done, ((2, 2), (2, 2), (0, 0)), constant_values=255)
