"""Companions: files beside one that hold a part of it, as GIS programs write them."""

from collections.abc import Iterable
from pathlib import Path

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from poreseg.files import sha256

SUFFIXES = (  # columns and CRS of a shapefile; an image's place on a map
    ".dbf", ".shx", ".prj", ".cpg", ".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".bpw", ".j2w", ".wld",
)  # fmt: skip
# after the whole name: what GDAL knows of a file and did not write into it
AUXILIARY = ".aux.xml"
APPENDED = (AUXILIARY, ".msk")
COUNTED = {"Metadata", "Histograms"}  # of a band, by programs that have shown it


def companions(path: Path | str) -> list[Path]:
    """The companions that a file has; not what a program has only counted in it."""
    path = Path(path)
    named = {path.with_suffix(form) for suffix in SUFFIXES for form in (suffix, suffix.upper())}
    named |= {path.with_name(path.name + suffix) for suffix in APPENDED}
    return sorted(beside for beside in named if beside.is_file() and not _only_counts(beside))


def _only_counts(path: Path) -> bool:
    """Whether a file holds statistics of bands and no more, as QGIS leaves it behind on opening an image."""
    if not path.name.endswith(AUXILIARY):
        return False
    try:
        parts = list(fromstring(path.read_bytes()))
    except (ParseError, DefusedXmlException):
        return False
    bands = [part for part in parts if part.tag == "PAMRasterBand"]
    return parts == bands and {part.tag for band in bands for part in band} <= COUNTED


def fingerprint(paths: Iterable[Path | str]) -> str:
    """Hex digests of files and of their companions, with blanks between."""
    return " ".join(sha256(part) for path in paths for part in (path, *companions(path)))
