"""Companions: files beside one that hold a part of it, as GIS programs write them."""

from collections.abc import Iterable
from pathlib import Path

from poreseg.files import sha256

SUFFIXES = (  # columns and CRS of a shapefile; an image's place on a map
    ".dbf", ".shx", ".prj", ".cpg", ".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".bpw", ".j2w", ".wld",
)  # fmt: skip
# after the whole name: what GDAL knows of a file and did not write into it
APPENDED = (".aux.xml", ".msk")


def companions(path: Path | str) -> list[Path]:
    """The companions that a file has."""
    path = Path(path)
    named = {path.with_suffix(form) for suffix in SUFFIXES for form in (suffix, suffix.upper())}
    named |= {path.with_name(path.name + suffix) for suffix in APPENDED}
    return sorted(beside for beside in named if beside.is_file())


def fingerprint(paths: Iterable[Path | str]) -> str:
    """Hex digests of files and of their companions, with blanks between."""
    return " ".join(sha256(part) for path in paths for part in (path, *companions(path)))
