"""Which label files are of which image: by name, by name and class, or by what is in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poreseg.errors import PoresegError, nearest
from poreseg.labels.rasterise import class_of
from poreseg.labels.registry import images_in
from poreseg.names import stem, unique


@dataclass(frozen=True)
class Labels:
    """The label of an image: its file, or one for each class, or none.

    `part` is a digest of what a file of several images says of this one, None of other files.
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
        All files; only those whose names are no image's are opened.
    named
        Those that samples.csv names, by image. A file of several images that it names for one
        of them is left to the others as well.
    folder
        The study's, for messages.

    Raises
    ------
    PoresegError
        A label without an image; two labels of one image.
    """
    taken = set(named.values())
    unique([label for label in labels if stem(label) in images and label not in taken], "labels")
    held = {label: _held(label) for label in labels if not _by_name(label, images)}
    found = {name: (label,) for name, label in named.items()}
    for label in labels:
        if label in taken:
            owners = held.get(label, {}).keys() & images.keys()
        else:
            owners = _by_name(label, images) or _within(label, images, held[label], folder)
        for name in sorted(owners - named.keys()):
            others, image = found.get(name, ()), images[name].name
            if others and None in (class_of(others[0], image), class_of(label, image)):
                raise PoresegError(f"{others[0]} and {label} both label {image}; take one "
                                   "away, or name the one that counts as label in samples.csv")  # fmt: skip
            found[name] = (*others, label)
    return {name: Labels(files, held.get(files[0], {}).get(name)) for name, files in found.items()}


def _by_name(label: Path, images: Mapping[str, Path]) -> set[str]:
    """The image that a label's name says it is of, or none."""
    if stem(label) in images:
        return {stem(label)}
    of_class = [name for name, image in images.items() if class_of(label, image.name)]
    return {max(of_class, key=len)} if of_class else set()


def _held(label: Path) -> dict[str, str]:
    """Names of the images that a label of several images has labels of, and a digest of each."""
    held = images_in(label) if label.is_file() else {}
    return {stem(image): part for image, part in held.items()}


def _within(
    label: Path, images: Mapping[str, Path], held: Mapping[str, str], folder: Path
) -> set[str]:
    """Images that a label is of by what it holds."""
    if owners := held.keys() & images.keys():
        return owners
    if held:
        raise PoresegError(f"{label}: labels {len(held)} images ({', '.join(sorted(held)[:3])}, ...), "
                           f"none of which is in {folder / 'images'}")  # fmt: skip
    raise PoresegError(
        f"{label}: there is no image of that name in {folder / 'images'}"
        f"{nearest(stem(label), images)}; rename the label or add its image"
    )
