"""The image formats, by suffix, and the one way to open any of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from poreseg.errors import PoresegError
from poreseg.images import czi, gdal, npy, photo
from poreseg.images.source import Choice, Source, reading

OPENERS = {
    **dict.fromkeys(gdal.TIFFS, gdal.open_tiff),
    **dict.fromkeys(gdal.DRIVERS, gdal.open_picture),
    **dict.fromkeys(photo.PHOTOS, photo.open_photo),
    **dict.fromkeys(npy.ARRAYS, npy.open_array),
    **dict.fromkeys(czi.CZIS, czi.open_czi),
}
SUFFIXES = tuple(OPENERS)
LARGEST = 2**40  # pixels; more is a broken header


@contextmanager
def open_image(path: Path | str, choice: Choice = Choice()) -> Iterator[Source]:  # noqa: B008
    """Open an image of any known format to read it by windows.

    Raises
    ------
    PoresegError
        The file is missing, truncated, of no known format, or has no such channel or plane.
        Later errors of reading its windows are `PoresegError` as well.
    """
    path = Path(path)
    if path.is_dir():
        raise PoresegError(f"{path}: a folder; name its images, all of them as {path / '*'}")
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raise PoresegError(
            f"{path}: its format is not read; save it as one of {' '.join(SUFFIXES)}"
        )
    with ExitStack() as stack:
        with reading(path):
            source = stack.enter_context(opener(path, choice))
            if source.planes == 1:
                choice.plane_of(path, 1, "")
            if not 0 < source.height * source.width <= LARGEST:
                raise ValueError(f"{source.width} x {source.height} pixels")
        yield source
