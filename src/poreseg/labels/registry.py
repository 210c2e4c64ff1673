"""The label formats, in the order in which they are tried."""

from pathlib import Path
from types import ModuleType

from poreseg.errors import PoresegError
from poreseg.labels import geojson, labelme, mask

READERS: tuple[ModuleType, ...] = (geojson, labelme, mask)


def reader_of(path: Path) -> ModuleType:
    """The reader whose format a file has."""
    try:
        found = next((reader for reader in READERS if reader.sniff(path)), None)
    except (OSError, UnicodeDecodeError) as error:
        raise PoresegError(f"{path}: cannot be read: {error}") from None
    if found is None:
        names = ", ".join(reader.NAME for reader in READERS)
        raise PoresegError(f"{path}: no label format that is read ({names})")
    return found
