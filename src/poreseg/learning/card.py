"""A model folder's files, and the card that says what the model is."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from poreseg.errors import PoresegError
from poreseg.files import read_json

CARD = "poreseg.json"
GRAPH = "model.onnx"  # the same network with its preprocessing, for OpenVINO and other runtimes
LOOKS = "looks.safetensors"  # channel statistics of its training images

# For Dice and IoU the best threshold of a calibrated probability is half of the best Dice
# (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure"). With
# few images, new specimens reach a Dice of 0.8.
THRESHOLD = 0.4


def read_card(folder: Path | str) -> dict[str, Any]:
    """The card of a model folder.

    Raises
    ------
    PoresegError
        The folder is no model folder.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        found = sorted(path.parent.name for path in folder.glob(f"*/{CARD}"))
        hint = (
            f"; it holds {', '.join(found)}, name one of them"
            if found
            else "; name one, e.g. results/model/all"
        )
        raise PoresegError(f"{folder}: no model folder, there is no {CARD} in it{hint}")
    card: dict[str, Any] = read_json(folder / CARD)
    return card


def images_behind(folder: Path | str) -> set[str]:
    """Names of the images that a model, or one that it started from, learned from or was chosen by.

    Empty for a folder without a card.
    """
    if not (Path(folder) / CARD).is_file():
        return set()
    card = read_card(folder)
    return {*card["images"], *card["validation_images"], *card["start_images"]}


def read_looks(folder: Path | str) -> dict[str, NDArray[np.float32]]:
    """Looks (2, C) of a model's training images, by name, see `poreseg.learning.looks`.

    Empty for a model without training images, or whose encoder has no batch norm.
    """
    path = Path(folder) / LOOKS
    return load_file(path) if path.is_file() else {}
