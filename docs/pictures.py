"""Make the README's pictures from a finished build of the demo study.

python docs/pictures.py [RESULTS]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from poreseg.analysis.errors import differences, labelled
from poreseg.check import check_sample, contact_sheet
from poreseg.classes import PORE
from poreseg.config import read_params
from poreseg.drawn.anything import draw_anything
from poreseg.drawn.study import samples
from poreseg.images.raster import open_raster
from poreseg.prediction.segment import paint

SHOWN = ["section-4", "sem-5", "photo-4", "ct-3"]  # one test image of each modality
SIDE = 300  # px


def row(results: Path, name: str) -> np.ndarray:
    """Image, label, prediction and differences of an image's central square."""
    with (
        open_raster(results / "rasters" / f"{name}.tif") as image,
        open_raster(results / "labels" / f"{name}.tif") as label,
        open_raster(results / "masks" / f"{name}.tif") as mask,
    ):
        pixels, truth, pore = image.rgb8(), label.band(), mask.band() == PORE
    cells = [
        pixels, labelled(pixels, truth), paint(pixels, pore), differences(pixels, pore, truth),
    ]  # fmt: skip
    side = min(*truth.shape, 600)
    top, left = (truth.shape[0] - side) // 2, (truth.shape[1] - side) // 2
    return beside([
        Image.fromarray(cell[top : top + side, left : left + side]).resize((SIDE, SIDE))
        for cell in cells
    ])  # fmt: skip


def drawn(seeds: range) -> np.ndarray:
    """Synthetic specimens, and below them their labels."""
    specimens = [draw_anything(np.random.default_rng([1, seed]), SIDE // 2) for seed in seeds]
    return np.vstack([beside([image for image, _ in specimens]),
                      beside([labelled(*specimen) for specimen in specimens])])  # fmt: skip


def beside(cells: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row."""
    return np.hstack(
        [np.pad(cell, ((3, 3), (3, 3), (0, 0)), constant_values=255) for cell in cells]
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    picture = Image.fromarray(np.vstack([row(folder, name) for name in SHOWN]))
    picture.save(Path(__file__).parent / "demo.jpg", quality=85)
    rows = np.vstack([drawn(range(start, start + 8)) for start in (0, 8)])
    Image.fromarray(rows).save(Path(__file__).parent / "drawn.jpg", quality=85)
    study = [sample for sample in samples(Path("data/demo")) if sample.name in SHOWN]
    cells = [check_sample(sample, read_params()).picture for sample in study]
    contact_sheet(cells, Path(__file__).parent / "check.jpg")
