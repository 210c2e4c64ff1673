"""Which label files are of which image: by name, by name and class, or by what is in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poreseg.errors import PoresegError, first_of, nearest, warn
from poreseg.labels.rasterise import class_of
from poreseg.labels.registry import images_in
from poreseg.names import composed, stem, unique


@dataclass(frozen=True)
class Labels:
    """The label files of an image: one, or one for each class, or none.

    `part` is the digest of this image's entry in a file of several, None for other files.
    """

    files: tuple[Path, ...] = ()
    part: str | None = None


def match(
    images: Mapping[str, Path], labels: Sequence[Path], named: Mapping[str, Path], folder: Path
) -> dict[str, Labels]:
    """The label of each image that has one.

    Parameters
    ----------
    images
        By name.
    labels
        All files; opened only if their names match no image.
    named
        Labels from samples.csv, by image. A file of several images that is named for one still
        labels the others as well.
    folder
        The study's, for messages.

    Raises
    ------
    PoresegError
        A label without an image; two labels of one image.
    """
    taken = set(named.values())
    unique([label for label in labels if stem(label) in images and label not in taken], "labels")
    owners = {label: _owners(label, images) for label in labels}
    found = {name: (label,) for name, label in named.items()}
    for label, parts in owners.items():
        if not parts and label not in taken:
            raise _astray(label, images, folder)
        of = {name for name, part in parts.items() if part or label not in taken}
        for name in sorted(of - named.keys()):
            others, image = found.get(name, ()), images[name].name
            if others and None in (class_of(others[0], image), class_of(label, image)):
                raise PoresegError(f"{others[0]} and {label} both label {image}; remove "
                                   "one, or name the one that counts in column label of samples.csv")  # fmt: skip
            found[name] = (*others, label)
    return {name: Labels(files, owners[files[0]].get(name)) for name, files in found.items()}


def _owners(label: Path, images: Mapping[str, Path]) -> dict[str, str | None]:
    """Images that a file labels, each with its entry's digest in a file of several, else None."""
    if stem(label) in images:
        return {stem(label): None}
    of_class = [name for name, image in images.items() if class_of(label, image.name)]
    if of_class:
        return {max(of_class, key=len): None}
    held = images_in(label)
    by_stem = {stem(name): part for name, part in held.items()}
    parts = {
        name: held.get(composed(image.name), by_stem.get(name)) for name, image in images.items()
    }
    if any(parts.values()) and (strange := sorted(by_stem.keys() - images.keys())):
        warn(f"{label}: {len(strange)} of the {len(held)} images that it labels are not among the study's: "
             f"{first_of(strange)}")  # fmt: skip
    return {name: part for name, part in parts.items() if part}


def _astray(label: Path, images: Mapping[str, Path], folder: Path) -> PoresegError:
    """What to tell of a label that is of no image."""
    if held := images_in(label):
        return PoresegError(f"{label}: of the {len(held)} images that it labels ({first_of(sorted(map(stem, held)))}) "
                            f"none is in {folder / 'images'}; add or rename them")  # fmt: skip
    return PoresegError(
        f"{label}: there is no image of that name in {folder / 'images'}"
        f"{nearest(stem(label), images)}; rename the label or add its image"
    )
