"""A model folder's files, and the card that says what the model is."""

from pathlib import Path
from typing import Any

from poreseg.errors import PoresegError
from poreseg.files import read_json

CARD = "poreseg.json"
GRAPH = "model.onnx"  # the same network, with its preprocessing, for machines without torch


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
        hint = f"; it holds {', '.join(found)}, name one of them" if found else ""
        raise PoresegError(f"{folder}: no model folder, there is no {CARD} in it{hint}")
    card: dict[str, Any] = read_json(folder / CARD)
    return card
