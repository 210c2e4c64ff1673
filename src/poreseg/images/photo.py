"""JPEG and WebP, which Pillow reads whole: it turns by EXIF and converts CMYK; GDAL does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from PIL import ExifTags, Image, ImageOps

from poreseg.errors import PoresegError, warn
from poreseg.images import scale
from poreseg.images.source import Choice, InMemory, Picture, Source, chosen_bands

PHOTOS = (".jpg", ".jpeg", ".webp")


@contextmanager
def open_photo(path: Path, choice: Choice) -> Iterator[Source]:
    """A JPEG or WebP, upright and in gray or RGB."""
    with Image.open(path) as file:
        if file.mode[0] in "IF":  # no photo has these, and they would be cut to 8 bits
            raise PoresegError(
                f"{path}: is a {file.format} of more than 8 bits; rename it with that format's suffix"
            )
        turn = file.getexif().get(ExifTags.Base.Orientation, 1)
        on_map = file.format == "JPEG" and turn == 1
        if 2 <= turn <= 8:
            warn(f"{path}: turned or mirrored by its EXIF orientation ({turn}), as viewers and browsers show it; "
                 "a label drawn on the pixels as stored would lie elsewhere")  # fmt: skip
        image = ImageOps.exif_transpose(file)
        alpha = np.asarray(image.getchannel("A")) if image.mode in ("RGBA", "LA") else None
        pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    bands = np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))
    valid = np.ones(bands.shape[1:], bool) if alpha is None else alpha > 0
    source = InMemory.of(path, Picture(chosen_bands(path, bands, choice), valid, alpha=alpha))
    if on_map:  # a world file is for the stored pixels, not the rotated ones
        with rasterio.open(path, driver="JPEG") as stored:
            source.crs, source.transform = stored.crs, stored.transform
        if not choice.of_label:
            source.scales = scale.from_crs(source.crs, source.transform, path.name)
    yield source
