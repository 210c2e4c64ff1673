"""The study: which images there are, their labels and specimens."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from poreseg.errors import PoresegError, nearest, warn

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".geojson", ".json", ".jpg", ".jpeg")
COLUMNS = ("image", "label", "specimen", "pixel_size_um", "split")
HOW_TO_FILL = "put images into images/ and their labels, under the same names, into labels/"


@dataclass(frozen=True)
class Sample:
    """One image of the study.

    `role` says what its label is for: "train", "validation", "test", or "unlabelled".
    `fold` is the fold whose model does not learn from it, None where all models may.
    """

    name: str
    image: Path
    label: Path | None
    specimen: str
    pixel_size_um: float | None
    role: str = "train"
    fold: int | None = None


@dataclass(frozen=True)
class Study:
    """All images of a study, and the number of folds that its training images form."""

    folder: Path
    samples: tuple[Sample, ...]
    folds: int

    def __getitem__(self, name: str) -> Sample:
        return next(sample for sample in self.samples if sample.name == name)

    @property
    def names(self) -> list[str]:
        """All images, in the order of their names."""
        return [sample.name for sample in self.samples]

    @property
    def labelled(self) -> list[str]:
        """The images that have a label, in the same order."""
        return [sample.name for sample in self.samples if sample.label]

    def seen_by(self, name: str) -> list[int]:
        """Folds whose models predict an image.

        With several folds a training image is predicted by the one model that has not
        seen it, so that its score is honest; any other image by all of them together.
        """
        fold = self[name].fold
        return [fold] if self.folds > 1 and fold is not None else list(range(self.folds))


def stem(path: Path | str) -> str:
    """The name that joins image and label: the file name up to the format's suffixes."""
    name = Path(path).name
    for suffix in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def holds_images(folder: Path) -> bool:
    """Whether someone has put files into a study's images, of whatever format."""
    images = folder / "images"
    return images.is_dir() and any(not path.name.startswith(".") for path in images.iterdir())


def read_study(folder: Path | str) -> list[Sample]:
    """List a study's images with their labels; nothing is opened but samples.csv.

    Raises
    ------
    PoresegError
        No images; two images or labels of one name; a label without an image; a wrong
        column, image, label, size or split in samples.csv.
    """
    folder = Path(folder)
    images = _files(folder / "images", IMAGE_SUFFIXES, "image")
    labels = _files(folder / "labels", LABEL_SUFFIXES, "label")
    if not images:
        raise PoresegError(f"no images in {folder / 'images'}: {HOW_TO_FILL}")
    return list_samples(images, labels, _read_rows(folder / "samples.csv"), folder)


def list_samples(
    images: Sequence[Path], labels: Sequence[Path], rows: dict[str, dict[str, str]], folder: Path
) -> list[Sample]:
    """Join images, labels and the rows of samples.csv (by image file name)."""
    by_stem = _unique(images, "images")
    label_of = _unique(labels, "labels")
    table = folder / "samples.csv"
    for name in rows:
        if name not in {image.name for image in images}:
            hint = nearest(name, [image.name for image in images])
            raise PoresegError(f"{table}: no image {name} in {folder / 'images'}{hint}")
    samples = [
        _sample(image, label_of.get(name), rows.get(image.name, {}), labels, table)
        for name, image in sorted(by_stem.items())
    ]
    used = {sample.label for sample in samples}
    for label in labels:
        if label not in used:
            hint = nearest(stem(label), by_stem)
            raise PoresegError(
                f"{label}: there is no image of that name in {folder / 'images'}{hint}; "
                "rename the label or add its image"
            )
    return samples


def _files(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    for path in files:
        if path.suffix.lower() not in suffixes:
            warn(f"{path}: left out, no {what} format that is read ({' '.join(suffixes)})")
    return [path for path in files if path.suffix.lower() in suffixes]


def _unique(paths: Iterable[Path], where: str) -> dict[str, Path]:
    """Paths by stem; a stem that comes twice is an error."""
    found: dict[str, Path] = {}
    for path in paths:
        name = stem(path)
        if name in found:
            raise PoresegError(
                f"two {where} are named {name}: {found[name].name} and {path.name}; rename one"
            )
        if set(name) & set("{}"):
            raise PoresegError(f"{path}: braces in a file name; rename it")
        found[name] = path
    return found


def _sample(
    image: Path, label: Path | None, row: dict[str, str], labels: Sequence[Path], table: Path
) -> Sample:
    if named := row.get("label"):
        label = next((path for path in labels if path.name == named), None)
        if label is None:
            hint = nearest(named, [path.name for path in labels])
            raise PoresegError(f"{table}: no label {named} in labels/{hint}")
    split = row.get("split") or ""
    if split not in ("", "train", "test"):
        raise PoresegError(
            f"{table}: split of {image.name} is '{split}'; wanted train, test or empty"
        )
    return Sample(
        name=stem(image),
        image=image,
        label=label,
        specimen=row.get("specimen") or stem(image),
        pixel_size_um=_size(row.get("pixel_size_um"), image.name, table),
        role=(split or "unassigned") if label else "unlabelled",
    )


def _size(text: str | None, image: str, table: Path) -> float | None:
    if not text:
        return None
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise PoresegError(
            f"{table}: pixel_size_um of {image} is '{text}'; wanted a number above 0"
        )
    return size


def _read_rows(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [{k: str(v).strip() for k, v in row.items() if k} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PoresegError(f"{path}: cannot be read as UTF-8 CSV: {error}") from None
    for column in columns:
        if column not in COLUMNS:
            raise PoresegError(
                f"{path}: unknown column '{column}'{nearest(column, COLUMNS)}; "
                f"known are {', '.join(COLUMNS)}"
            )
    if "image" not in columns:
        raise PoresegError(f"{path}: no column 'image'; it names the file that a row is about")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["image"] in found:
            raise PoresegError(f"{path}: {row['image']} comes twice")
        found[row["image"]] = row
    return found
