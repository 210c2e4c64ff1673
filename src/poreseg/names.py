"""Names: what joins an image, its label and their results."""

from collections.abc import Sequence
from pathlib import Path


def stem(path: Path | str) -> str:
    """The name that joins image and label: the file name up to the format's suffixes."""
    name = Path(path).name
    for suffix in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def by_name(paths: Sequence[Path | str]) -> dict[str, Path]:
    """Paths of results by the name of their image."""
    return {Path(path).stem: Path(path) for path in paths}
