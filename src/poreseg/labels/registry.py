"""The label formats, in the order in which they are tried."""

from pathlib import Path
from types import ModuleType

from poreseg.errors import PoresegError
from poreseg.files import digest
from poreseg.images import companions
from poreseg.images import registry as image_formats
from poreseg.labels import coco, cvat, geojson, labelme, labelstudio, mask, roi, vector, via
from poreseg.labels.label import Classes, Grid, Label
from poreseg.labels.shapes import parsing
from poreseg.names import file_name

READERS: tuple[ModuleType, ...] = (
    geojson,
    labelme,
    coco,
    via,
    labelstudio,
    cvat,
    roi,
    vector,
    mask,
)
SUFFIXES = (".geojson", ".json", ".xml", ".roi", ".zip", ".shp", ".gpkg", *image_formats.SUFFIXES)
SIDECARS = (  # beside shapefiles and images, of GIS programs
    *companions.SUFFIXES, *companions.APPENDED, ".qpj", ".qmd", ".qml", ".qix", ".sbn", ".sbx", ".shp.xml",
)  # fmt: skip


def reader_of(path: Path) -> ModuleType:
    """The reader whose format a file has."""
    if not path.is_file():
        raise PoresegError(f"{path}: there is no such file")
    with parsing(path, "a label"):
        found = next((reader for reader in READERS if reader.sniff(path)), None)
    if found is None:
        names = ", ".join(reader.NAME for reader in READERS)
        packed = path.suffix.lower() == ".zip"
        hint = "; unpack it, and put what is within into labels/" if packed else ""
        raise PoresegError(f"{path}: its format is not read; wanted {names}{hint}")
    return found


def read_file(path: Path, grid: Grid, classes: Classes) -> Label:
    """Read a label file of any known format on a raster's grid."""
    reader = reader_of(path)
    with parsing(path, reader.NAME):
        label: Label = reader.read(path, grid, classes)
    return label


def images_in(path: Path) -> dict[str, str]:
    """Digests of the entries of labelled images, by file name, in a file of several; else empty.

    Names are without folders, as `entry_of` compares them.
    """
    reader = reader_of(path)
    with parsing(path, reader.NAME):
        images = reader.images(path) if hasattr(reader, "images") else []
        return {file_name(name): digest(part) for name, part in images}
