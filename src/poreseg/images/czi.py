"""ZEISS CZI, read by window with ZEISS's own library."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pylibCZIrw import czi

from poreseg.errors import PoresegError, warn
from poreseg.images import scale
from poreseg.images.source import Choice, Picture, Source
from poreseg.images.windows import Window

CZIS = (".czi",)
PIXELS = {  # dtype and bands
    "Gray8": (np.uint8, 1), "Gray16": (np.uint16, 1), "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3), "Bgr48": (np.uint16, 3),
}  # fmt: skip


@contextmanager
def open_czi(path: Path, choice: Choice) -> Iterator[Source]:
    """A CZI image: the chosen plane of its first scene."""
    with path.open("rb") as file:
        if file.read(10) != b"ZISRAWFILE":
            raise PoresegError(f"{path}: cannot be read as an image, it is no CZI; export it again")
    with czi.open_czi(str(path)) as document:
        yield _source(path, document, choice)


def _source(path: Path, document: czi.CziReader, choice: Choice) -> Source:
    scenes = document.scenes_bounding_rectangle
    if len(scenes) > 1:
        warn(f"{path}: {len(scenes)} scenes; the first one is taken. Export the others as images")
    area = scenes[min(scenes)] if scenes else document.total_bounding_rectangle
    box = document.total_bounding_box
    sizes = {axis: box[axis][1] - box[axis][0] for axis in ("T", "Z", "C") if axis in box}
    channels = choice.channels_of(path, "channels", sizes.pop("C", 1), (1,))
    described = " x ".join(f"{axis} {n}" for axis, n in sizes.items())
    planes = prod(sizes.values())
    plane = choice.plane_of(path, planes, f" ({described})" if described else "")
    at = np.unravel_index(plane - 1, tuple(sizes.values())) if sizes else ()
    position = {axis: int(i) + box[axis][0] for axis, i in zip(sizes, at, strict=True)}
    kind = document.get_channel_pixel_type(channels[0] - 1)
    if kind not in PIXELS:
        raise PoresegError(f"{path}: pixels of type {kind}; wanted {', '.join(PIXELS)}")
    dtype, bands = PIXELS[kind]
    return _Czi(
        path=path, height=area.h, width=area.w, count=bands * len(channels), dtype=np.dtype(dtype),
        scales={} if choice.of_label else scale.from_czi(document.raw_metadata, path.name),
        planes=planes, document=document, left=area.x, top=area.y,
        wanted=[position | {"C": channel - 1} for channel in channels],
    )  # fmt: skip


@dataclass(kw_only=True)
class _Czi(Source):
    document: Any
    left: int
    top: int
    wanted: list[dict[str, int]]

    def _read(self, window: Window) -> Picture:
        area = (self.left + window.col, self.top + window.row, window.width, window.height)
        parts = [self.document.read(roi=area, plane=plane) for plane in self.wanted]
        # (H, W, C), colours as blue, green, red
        bands = np.concatenate([np.moveaxis(part, -1, 0)[::-1] for part in parts])
        return Picture(np.ascontiguousarray(bands), np.ones(bands.shape[1:], bool))
