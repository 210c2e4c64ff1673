"""Companions: sidecar files with part of a file's content, written by GIS programs."""

from collections.abc import Iterable
from pathlib import Path

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from poreseg.files import sha256

SUFFIXES = (  # columns and CRS of a shapefile; world files of an image
    ".dbf", ".shx", ".prj", ".cpg", ".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".bpw", ".j2w", ".wld",
)  # fmt: skip
# after the whole name: metadata and masks that GDAL keeps outside the file
AUXILIARY = ".aux.xml"
APPENDED = (AUXILIARY, ".msk")
COUNTED = {"Metadata", "Histograms"}  # statistics of a band, added by viewers


def companions(path: Path | str) -> list[Path]:
    """The existing companions of a file, without those of mere statistics."""
    path = Path(path)
    named = {path.with_suffix(form) for suffix in SUFFIXES for form in (suffix, suffix.upper())}
    named |= {path.with_name(path.name + suffix) for suffix in APPENDED}
    return sorted(beside for beside in named if beside.is_file() and not _only_counts(beside))


def _only_counts(path: Path) -> bool:
    """Whether a file is an .aux.xml of band statistics only, which QGIS writes on opening an image."""
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
