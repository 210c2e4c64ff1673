"""Convert: a label in another format, with the same pixels."""

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from poreseg.errors import PoresegError, PoresegWarning
from poreseg.files import whole
from poreseg.images.registry import open_image
from poreseg.images.source import Choice
from poreseg.labels.label import Classes, Grid, Label
from poreseg.labels.rasterise import read_label
from poreseg.labels.write import write_label


def convert(
    labels: Sequence[Path], image: Path, form: str, out: Path, plane: int | None, classes: Classes
) -> str:
    """Write a label in a form of `FORMS`; returns how it was understood.

    Raises
    ------
    PoresegError
        It cannot be read; several labels are not masks of one class each; or the output would be
        misread with `classes`: 255 in a mask, for example, if they call it unknown.
    """
    with open_image(image, Choice(plane=plane)) as source:
        grid = Grid.of(source, image.name, plane)
    label = read_label(labels, grid, classes)
    with TemporaryDirectory() as scratch:
        trial = Path(scratch) / out.name
        try:
            write_label(trial, label.values, grid, form, os.path.relpath(image, out.parent), classes.ground)  # fmt: skip
        except PoresegError as error:  # the suffix is not the form's, say
            raise PoresegError(str(error).replace(str(trial), str(out))) from None
        if (wrong := _misread(label, trial, grid, classes)) is not None:
            raise PoresegError(
                f"{out}: not written, since with rasterise in params.yaml it would be misread ({wrong}); "
                "write a mask in a .tif, which says itself what its values mean"
            )
        with whole(out) as temporary:
            shutil.copyfile(trial, temporary)
    return label.understood


def _misread(label: Label, path: Path, grid: Grid, classes: Classes) -> str | None:
    """How a file is read, or its error, if not as the label; else None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoresegWarning)  # already given when `label` was read
        try:
            found = read_label([path], grid, classes)
        except PoresegError as error:
            return str(error).replace(f"{path}: ", "")
    return None if (found.values == label.values).all() else found.understood
