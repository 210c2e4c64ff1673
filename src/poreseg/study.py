"""The study: its images, their labels and specimens."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from poreseg.errors import PoresegError, first_of, nearest, warn
from poreseg.images import registry as image_formats
from poreseg.images.scale import micrometres
from poreseg.labels import registry as label_formats
from poreseg.labels.match import Labels, match
from poreseg.names import composed, stem, unique

COLUMNS = (
    "image",
    "label",
    "specimen",
    "pixel_size_um",
    "split",
    "channel",
    "plane",
    "data_bar_px",
)
TABLE = "samples.csv"
TABLES = (".csv", ".txt", ".tsv", ".xls", ".xlsx", ".ods")
USER_STUDY = Path("data/raw")  # where a study is looked for first
HOW_TO_FILL = "put images into images/ and their labels, under the same names, into labels/"


@dataclass(frozen=True)
class Sample:
    """One image of the study.

    `labels` is the file of its label, or one for each class, or none; `part` is a digest of
    this image's part of a label file for several images, else None. `channel`, `plane` and
    `data_bar_px` are as in samples.csv, None if not given. `role` is "train", "validation",
    "test" or "unlabelled"; before the split, that of samples.csv, else "unassigned". `fold` is
    the fold whose model does not train on it, None if it is held out from none.
    """

    name: str
    image: Path
    labels: tuple[Path, ...]
    specimen: str
    part: str | None = None
    pixel_size_um: float | None = None
    channel: tuple[int, ...] | None = None
    plane: int | None = None
    data_bar_px: int | None = None
    role: str = "train"
    fold: int | None = None


@dataclass(frozen=True)
class Study:
    """All images of a study, and the number of folds that its training images form."""

    folder: Path
    samples: tuple[Sample, ...]
    folds: int

    def __getitem__(self, name: str) -> Sample:
        """The image of a name; `PoresegError` if there is none, as for a misspelt target."""
        for sample in self.samples:
            if sample.name == name:
                return sample
        raise PoresegError(f"{self.folder}: no image {name}{nearest(name, self.names)}")

    @property
    def names(self) -> list[str]:
        """All images, in the order of their names."""
        return [sample.name for sample in self.samples]

    @property
    def labelled(self) -> list[str]:
        """The images that have a label, in the same order."""
        return [sample.name for sample in self.samples if sample.labels]

    @property
    def for_training(self) -> list[str]:
        """The labelled images except test images: all that training may depend on."""
        return [sample.name for sample in self.samples if sample.labels and sample.role != "test"]

    def folds_for(self, name: str) -> list[int]:
        """Folds whose models predict an image.

        With several folds, a training image is predicted by the one model that was not
        trained on it, so that its score is unbiased; any other image by all models.
        """
        fold = self[name].fold
        return [fold] if self.folds > 1 and fold is not None else list(range(self.folds))


def holds_images(folder: Path) -> bool:
    """Whether a study's images folder has files, of any format."""
    images = folder / "images"
    return images.is_dir() and any(not path.name.startswith(".") for path in images.iterdir())


def read_study(folder: Path | str) -> list[Sample]:
    """List a study's images with their labels.

    Opens only samples.csv and labels that are named after no image: these may be for
    several images.

    Raises
    ------
    PoresegError
        No images; two images or labels of one name; a label without an image; a wrong
        column, image, label, size or split in samples.csv.
    """
    folder = Path(folder)
    images = _files(folder / "images", image_formats.SUFFIXES, "image")
    labels = _files(folder / "labels", label_formats.SUFFIXES, "label")
    if not images:
        raise PoresegError(f"no images in {folder / 'images'}: {HOW_TO_FILL}")
    _tell_other_tables(folder)
    return list_samples(images, labels, _read_rows(folder / TABLE), folder)


def _tell_other_tables(folder: Path) -> None:
    """Warn of tables whose name is nearly samples.csv: some systems hide suffixes or ignore case."""
    table = folder / TABLE
    for path in folder.iterdir():
        name = path.name.casefold()
        alike = name.split(".")[0] in ("sample", "samples") and name.endswith(TABLES)
        if alike and not (table.exists() and path.samefile(table)):
            warn(f"{path}: not read; the table of a study is called {TABLE}, and is CSV")


def list_samples(
    images: Sequence[Path], labels: Sequence[Path], rows: dict[str, dict[str, str]], folder: Path
) -> list[Sample]:
    """Join images, labels and the rows of samples.csv (by image file name), sorted by name."""
    by_stem = unique(images, "images")
    table = folder / TABLE
    there = {composed(image.name) for image in images}
    for name in rows:
        if name not in there:
            raise PoresegError(
                f"{table}: no image {name} in {folder / 'images'}{nearest(name, there)}"
            )
    row_of = {name: rows.get(composed(image.name), {}) for name, image in by_stem.items()}
    named = {name: label for name, row in row_of.items() if (label := _named(row, labels, table))}
    found = match(by_stem, labels, named, folder)
    samples = [_sample(image, found.get(name, Labels()), row_of[name], table)
               for name, image in sorted(by_stem.items())]  # fmt: skip
    if mute := [s.image.name for s in samples if row_of[s.name].get("split") == "test" and not s.labels]:  # fmt: skip
        warn(f"{table}: for test, but without a label, so they test nothing: {', '.join(mute)}")
    _tell_alike(samples, folder)
    left_out = [s.image.name for s in samples if s.labels and not row_of[s.name].get("specimen")]
    if left_out and any(row.get("specimen") for row in rows.values()):
        warn(f"{table}: each counts as a specimen of its own, for none is given: {first_of(left_out, 5)}; "
             "if some are of one specimen, name it, or both sides of a split may show it")  # fmt: skip
    return samples


def _tell_alike(samples: Sequence[Sample], folder: Path) -> None:
    """Warn of specimens that differ only in case, blanks, underscores or hyphens.

    They are probably one, which the split could put on both sides.
    """
    spelled: dict[str, set[str]] = {}
    for sample in samples:
        bare = re.sub(r"[\s_]+|(?<=\w)-", " ", sample.specimen.casefold())
        spelled.setdefault(bare, set()).add(sample.specimen)
    for names in spelled.values():
        if len(names) > 1:
            warn(f"{folder}: {' and '.join(sorted(names))} are taken for different specimens; if they are one, spell it alike in {TABLE}")  # fmt: skip


def _files(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")
             and not p.name.lower().endswith(label_formats.SIDECARS)]  # fmt: skip
    for path in files:
        if not path.exists():
            raise PoresegError(f"{path}: a link to {path.readlink()}, which is not there; is its disk mounted, or "
                               "must the file be fetched first (dvc pull, git annex get)?")  # fmt: skip
        if path.is_dir():
            warn(f"{path}: left out, a folder; put the {what}s in it into {folder}")
        elif path.suffix.lower() not in suffixes:
            warn(f"{path}: left out, not of a format read for {what}s ({' '.join(suffixes)})")
    return [path for path in files if path.is_file() and path.suffix.lower() in suffixes]


def _named(row: dict[str, str], labels: Sequence[Path], table: Path) -> Path | None:
    """The label that samples.csv names for an image."""
    if not (name := row.get("label")):
        return None
    found = next((path for path in labels if composed(path.name) == name), None)
    if found is None:
        hint = nearest(name, [path.name for path in labels])
        raise PoresegError(f"{table}: no label {name} in labels/{hint}")
    return found


def _sample(image: Path, labels: Labels, row: dict[str, str], table: Path) -> Sample:
    split = row.get("split") or ""
    if split not in ("", "train", "test"):
        raise PoresegError(
            f"{table}: split of {image.name} is '{split}'; wanted train, test or empty"
        )
    plane = _counts("plane", row, image.name, table, 1)
    bar = _counts("data_bar_px", row, image.name, table, 0)
    return Sample(
        name=stem(image),
        image=image,
        labels=labels.files,
        part=labels.part,
        specimen=row.get("specimen") or stem(image),
        pixel_size_um=_size(row.get("pixel_size_um"), image.name, table),
        channel=_counts("channel", row, image.name, table, 1),
        plane=plane[0] if plane else None,
        data_bar_px=bar[0] if bar else None,
        role=(split or "unassigned") if labels.files else "unlabelled",
    )


def _counts(
    column: str, row: dict[str, str], image: str, table: Path, least: int
) -> tuple[int, ...] | None:
    """Whole numbers of a cell: one, or channels separated by blanks or commas."""
    if not (cell := row.get(column)):
        return None
    parts = cell.replace(",", " ").split()
    several = column == "channel"
    if all(part.isdecimal() and int(part) >= least for part in parts) and (
        several or len(parts) == 1
    ):
        return tuple(map(int, parts))
    wanted = "1, or 1 2 3" if several else f"a whole number from {least} on"
    raise PoresegError(f"{table}: {column} of {image} is '{cell}'; wanted {wanted}")


def _size(text: str | None, image: str, table: Path) -> float | None:
    if not text:
        return None
    size = micrometres(text, "um")
    if size is None:
        raise PoresegError(
            f"{table}: pixel_size_um of {image} is '{text}'; wanted a number above 0"
        )
    return size


def _read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows of samples.csv by image file name, each with its cells by column."""
    if not path.is_file():
        return {}
    (_, header), *lines = _lines(path)
    columns = list(header)
    while columns and not columns[-1]:  # left by a spreadsheet
        columns.pop()
    if len(columns) == 1 and ";" in columns[0]:
        raise PoresegError(
            f"{path}: semicolons between its cells; wanted commas, and numbers with a point"
        )
    for number, column in enumerate(columns, start=1):
        if not column:
            raise PoresegError(f"{path}: column {number} has no name; wanted one of {', '.join(COLUMNS)}")  # fmt: skip
        if column not in COLUMNS:
            raise PoresegError(
                f"{path}: unknown column '{column}'{nearest(column, COLUMNS)}; "
                f"wanted one of {', '.join(COLUMNS)}"
            )
    if "image" not in columns:
        raise PoresegError(f"{path}: no column 'image'; it names the file that a row is about")
    found: dict[str, dict[str, str]] = {}
    for number, cells in lines:
        if len(cells) > len(header) or any(cells[len(columns) :]):
            raise PoresegError(
                f"{path}: line {number} has more cells than there are columns; "
                "wanted numbers with a point (1.25), and quotes around what holds a comma"
            )
        row = dict(zip_longest(columns, cells[: len(columns)], fillvalue=""))
        if row["image"] in found:
            raise PoresegError(f"{path}: {row['image']} has two rows; remove one, or save each plane of a stack as an image of its own")  # fmt: skip
        found[row["image"]] = row
    return found


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of each non-empty line of a table, the header first."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [composed(cell.strip()) for cell in cells]) for cells in reader]  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as error:
        raise PoresegError(f"{path}: cannot be read as UTF-8 CSV ({error}); in a spreadsheet save it as CSV UTF-8") from None  # fmt: skip
    for number, cells in lines:
        if broken := next((cell for cell in cells if len(cell.splitlines()) > 1), None):
            raise PoresegError(
                f"{path}: a cell runs on to line {number} ({broken.splitlines()[0]} ...); "
                "is a closing quote missing?"
            )
    return [(number, cells) for number, cells in lines if any(cells)] or [(1, [])]
