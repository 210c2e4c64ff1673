"""Names: what joins an image, its label and their results."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from poreseg.errors import PoresegError

LONGEST = 180  # bytes; file systems allow 255, and names get a prefix of 34 (`TEMPORARY`), a class and a suffix


def composed(name: str) -> str:
    """A name in Unicode's composed form, NFC: macOS separates letters and accents.

    >>> composed("mo\u0308rtel") == "m\u00f6rtel"
    True
    """
    return unicodedata.normalize("NFC", name)


def stem(path: Path | str) -> str:
    """The name that image and label share: the file name without the format's suffixes."""
    name = composed(Path(path).name)
    for suffix in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def file_name(path: str) -> str:
    """A file's name without its folders, whatever system wrote them."""
    return composed(Path(path.replace("\\", "/")).name)


def unique(paths: Iterable[Path], where: str) -> dict[str, Path]:
    """Paths by stem.

    Raises
    ------
    PoresegError
        Two paths with one stem, braces or angle brackets in a stem, or one of more than
        `LONGEST` bytes.
    """
    found: dict[str, Path] = {}
    for path in paths:
        name = stem(path)
        if name in found:
            raise PoresegError(
                f"two {where} are named {name}: {found[name]} and {path}; rename one"
            )
        if taken := sorted(set(name) & set("{}<>")):  # Snakemake's own
            raise PoresegError(f"{path}: {' and '.join(taken)} in a file name; rename it")
        if len(name.encode()) > LONGEST:
            raise PoresegError(
                f"{path}: its name has {len(name.encode())} bytes; wanted at most {LONGEST}, for results have longer names; rename it"
            )
        found[name] = path
    return found


def by_name(paths: Sequence[Path | str]) -> dict[str, Path]:
    """Paths of results by the name of their image."""
    return {Path(path).stem: Path(path) for path in paths}
