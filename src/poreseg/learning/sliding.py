"""Probabilities of rasters of any size: windows are read, computed and stitched concurrently."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from poreseg.images.raster import Raster, open_raster
from poreseg.images.stitch import stitch
from poreseg.images.stream import ahead
from poreseg.images.windows import Window, covering

T = TypeVar("T")
Corner = tuple[bool, bool]  # rows, columns are counted from the far border
STRIDE = 32  # px; the U-Net halves its input five times
AUTO_TTA_PX = 4_000_000  # up to which eight views are worth their time


class Predictor(Protocol):
    """A model on any backend."""

    @property
    def card(self) -> dict[str, Any]:
        """What the model is, see `read_card`."""

    @property
    def seen(self) -> Mapping[str, NDArray[np.float32]]:
        """Looks of its training images, by name, see `poreseg.learning.looks`."""

    def probabilities(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pore probabilities (N, H, W) of windows (N, H, W, 3); H and W are multiples of 32."""

    def moments(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean and mean square (N, 2, C) of its middle layers' channels over windows (N, H, W, 3)."""


def views(tta: str, height: int, width: int) -> tuple[list[Corner], bool]:
    """Corners from which a raster's windows are counted, and whether each is seen transposed too.

    All four corners, both ways, are the eight turns and flips of the raster (D4). Because
    the windows turn with it, a mirrored raster gives the mirrored mean.
    """
    if tta == "none" or (tta == "auto" and height * width > AUTO_TTA_PX):
        return [(False, False)], False
    return [(rows, cols) for rows in (False, True) for cols in (False, True)], True


def predict_strips(
    models: Sequence[Predictor],
    path: Path | str,
    *,
    window: int,
    overlap: int,
    batch: int,
    tta: str,
    spread: bool = False,
    inverse: bool = False,
    progress: "tqdm[Any] | None" = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Stitched pore probabilities of a raster, in strips; the mean over models and views.

    Memory holds a row of windows, whatever the raster's height. Windows without specimen
    are not computed.

    Parameters
    ----------
    models
        To be averaged.
    path
        Canonical raster.
    window, overlap
        Largest side of a window, and least overlap of neighbours, in px.
    batch
        Windows computed at a time.
    tta
        "none", "d4" (eight turns and flips), or "auto": d4 up to `AUTO_TTA_PX`.
    spread
        Also give the standard deviation over models and views.
    inverse
        The models see the raster with bright and dark exchanged.
    progress
        Counts pixels.

    Yields
    ------
    First row, and values (B, rows, W): the probability and, with `spread`, its deviation;
    NaN where there is no specimen.
    """
    with open_raster(path) as raster, open_raster(path) as again:  # a handle for each thread
        height, width = raster.height, raster.width
        corners, transposed = views(tta, height, width)
        if progress is not None:
            progress.reset(height * width)

        def computed() -> Iterator[tuple[Window, NDArray[np.float32]]]:
            for chosen in _batched(ahead(_read(raster, window, overlap, corners, inverse)), batch):
                pixels = np.stack([part for _, _, part in chosen])
                found = _members(models, pixels, transposed)
                moments = [found.mean(axis=0), (found**2).mean(axis=0)][: 1 + spread]
                for (place, corner, _), values in zip(chosen, np.stack(moments, 1), strict=True):
                    yield place, _turned(values, corner)
                if progress is not None:
                    progress.update(max(chosen[-1][0].row, 0) * width - progress.n)

        for row, values in stitch(height, width, ahead(computed()), overlap, 1 + spread):
            values[:, ~again.valid(Window(row, 0, values.shape[1], width))] = np.nan
            if spread:
                values[1] = np.sqrt(np.maximum(values[1] - values[0] ** 2, 0))
            yield row, values
        if progress is not None:
            progress.update(height * width - progress.n)


def predict_raster(
    models: Sequence[Predictor], path: Path | str, **settings: Any
) -> NDArray[np.float32]:
    """Stitched pore probabilities (H, W) of a raster that fits in memory; see `predict_strips`."""
    return np.concatenate([values[0] for _, values in predict_strips(models, path, **settings)])


def _read(
    raster: Raster, size: int, overlap: int, corners: Sequence[Corner], inverse: bool
) -> Iterator[tuple[Window, Corner, NDArray[np.uint8]]]:
    """Windows with specimen, pixels (H, W, 3) flipped so that their corner comes first.

    What lies beyond the raster's border is mirrored.
    """
    height, width = raster.height, raster.width
    places = [(window, corner) for corner in corners
              for window in covering(height, width, size, overlap, STRIDE, corner)]  # fmt: skip
    for place, corner in sorted(places, key=lambda item: item[0].row):
        part = place.inside(height, width)
        if not raster.valid(part).any():
            continue
        around = (*place.beyond(height, width), (0, 0))
        pixels = np.pad(raster.rgb8(part, inverse=inverse), around, mode="symmetric")
        yield place, corner, _turned(pixels, corner, axes=(0, 1))


def _turned(array: NDArray[Any], corner: Corner, axes: tuple[int, int] = (-2, -1)) -> NDArray[Any]:
    """An array with the axes flipped that are counted from the far border."""
    return np.flip(array, tuple(axis for axis, far in zip(axes, corner, strict=True) if far))


def _members(
    models: Sequence[Predictor], pixels: NDArray[np.uint8], transposed: bool
) -> NDArray[np.float32]:
    """Probabilities (M, N, H, W) of windows (N, H, W, 3) by each model, and of them transposed."""
    found = [model.probabilities(pixels) for model in models]
    if transposed:
        other = np.ascontiguousarray(pixels.swapaxes(1, 2))
        found += [model.probabilities(other).swapaxes(1, 2) for model in models]
    return np.stack(found)


def _batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one of what is left."""
    while chosen := list(islice(items, size)):
        yield chosen
