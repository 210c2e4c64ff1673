"""Training data: random, balanced and augmented crops of images, and synthetic specimens."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from poreseg.classes import MATRIX, NOTHING_KNOWN, PORE, UNKNOWN
from poreseg.drawn.anything import draw_anything
from poreseg.errors import PoresegError
from poreseg.images.raster import Raster, keep_open
from poreseg.images.windows import Window
from poreseg.learning.pipeline import Pipeline

KEPT_OPEN = 200  # files; a process may open about a thousand
LOOKED_AT = 64  # squares, to decide whether pores are bright
APART = 64  # indices from a specimen to its repetition

Square = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # image (S, S, 3) and label (S, S)
Item = tuple[Tensor, Tensor]  # image (3, S, S) and label (S, S), both uint8


class Crops(Dataset[Item]):
    """An endless supply of crops by index: the same index, the same crop.

    A crop is centred on a random pixel of a random tile, so that it is not tied to the
    grid, and moved inward until the square from which it is augmented fits the image; in an
    image smaller than that square, until the crop itself fits. `pore_share` of the crops come
    from tiles with pores; every image with such tiles has the same chance, whatever its
    size.

    Parameters
    ----------
    tiles
        Rows of tiles.csv to learn from.
    rasters, labels
        Paths by image name.
    """

    def __init__(
        self,
        tiles: pd.DataFrame,
        rasters: Mapping[str, Path],
        labels: Mapping[str, Path],
        pipeline: Pipeline,
        *,
        pore_share: float,
        seed: int,
    ) -> None:
        self._tiles = tiles[tiles["known"] > 0].reset_index(drop=True)
        if self._tiles.empty:
            raise PoresegError(NOTHING_KNOWN)
        self._any = _chances(self._tiles, np.ones(len(self._tiles), bool))
        self._pore = _chances(self._tiles, (self._tiles["pore"] > 0).to_numpy())
        self._rasters, self._labels = rasters, labels
        self._pipeline, self._pore_share, self._seed = pipeline, pore_share, seed
        self._open: dict[Path, Raster] = {}  # by each worker for itself

    def __getitem__(self, index: int) -> Item:
        """A crop."""
        draw = np.random.default_rng([self._seed, index])
        image, label = self.source(draw)
        image, label = self._pipeline(image, label, int(draw.integers(2**31)))
        return _item(image, label)

    def source(self, draw: np.random.Generator) -> Square:
        """A random square before augmentation: image (S, S, 3), label (S, S)."""
        chances = self._pore if draw.random() < self._pore_share else self._any
        tile = self._tiles.iloc[int(draw.choice(len(chances), p=chances))]
        row = tile["row"] + int(draw.integers(tile["height"]))
        col = tile["col"] + int(draw.integers(tile["width"]))
        image, truth = (self._raster(of[tile["image"]]) for of in (self._rasters, self._labels))
        side, crop = self._pipeline.source_px, self._pipeline.crop_px
        return read_square(image, truth, _first(row, side, crop, image.height),
                           _first(col, side, crop, image.width), side)  # fmt: skip

    def bright(self) -> bool:
        """Whether pores are brighter than the matrix in most squares that hold both."""
        brighter = []
        for index in range(LOOKED_AT):
            image, label = self.source(np.random.default_rng([self._seed, index]))
            pore, matrix = image[label == PORE], image[label == MATRIX]
            if pore.size and matrix.size:
                brighter.append(pore.mean() > matrix.mean())
        self._open.clear()  # a file that is open must not reach the workers
        return sum(brighter) > len(brighter) / 2

    def _raster(self, path: Path) -> Raster:
        """A raster, kept open so that GDAL caches its decoded blocks."""
        if path not in self._open:
            if len(self._open) == KEPT_OPEN:
                self._open.clear()
            self._open[path] = keep_open(path)
        return self._open[path]


class Drawn(Dataset[Item]):
    """Endless synthetic specimens by index: the same index, the same one.

    As generating one is slow, each is used twice: `APART` indices later, turned or mirrored.
    `inverse`: all channels are inverted, so that most pores are bright.
    """

    def __init__(self, side: int, seed: int, *, inverse: bool = False) -> None:
        self._side, self._seed, self._inverse = side, seed, inverse

    def __getitem__(self, index: int) -> Item:
        """A specimen."""
        lap, place = divmod(index, APART)
        number = lap // 2 * APART + place
        image, label = _specimen(self._seed, number, self._side)
        if lap % 2:
            image, label = (_turned(each, 1 + number % 7) for each in (image, label))
        return _item(255 - image if self._inverse else image, label)


class WithDrawn(Dataset[Item]):
    """Crops, of which an evenly spaced share is replaced by synthetic specimens.

    A few images show only their own pores; mixed with specimens of any appearance, they
    do not make a network forget what pores have in common.
    """

    def __init__(self, crops: Dataset[Item], drawn: Dataset[Item], share: float) -> None:
        self._crops, self._drawn, self._share = crops, drawn, share

    def __getitem__(self, index: int) -> Item:
        """A crop or a specimen; the same index, the same one."""
        number = int(index * self._share)  # of specimens before this index
        replaced = int((index + 1) * self._share) > number
        return self._drawn[number] if replaced else self._crops[index]


def read_square(image: Raster, truth: Raster, row: int, col: int, side: int) -> Square:
    """Image and label of a square that may reach over the border.

    What lies beyond is the image mirrored, with an unknown label, so that nothing is learned
    from pixels that are not there.
    """
    square = Window(row, col, side, side)
    part = square.inside(image.height, image.width)
    around = square.beyond(image.height, image.width)
    pixels = np.pad(image.rgb8(part), (*around, (0, 0)), mode="symmetric")
    return pixels, np.pad(truth.band(part), around, constant_values=UNKNOWN)


def _first(middle: int, side: int, crop: int, length: int) -> int:
    """First pixel of a square around `middle`, moved to fit the line.

    On a line shorter than the square, its central crop is moved to fit, or to cover the line;
    otherwise pixels near the border, most of a small image, would seldom be sampled.

    >>> [_first(middle, 6, 4, 10) for middle in (0, 5, 9)]
    [0, 2, 4]
    >>> [_first(middle, 6, 4, 5) for middle in (0, 2, 4)], [_first(middle, 6, 4, 3) for middle in (0, 2)]
    ([-1, -1, 0], [-2, -1])
    """
    fits = side if side <= length else crop
    nearest, farthest = sorted((0, length - fits))
    return min(max(middle - fits // 2, nearest), farthest) - (side - fits) // 2


@lru_cache(maxsize=APART)
def _specimen(seed: int, number: int, side: int) -> Square:
    """A synthetic specimen, cached per worker, so that another may have to generate it again."""
    return draw_anything(np.random.default_rng([seed, number]), side)


def _turned(array: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """An array (S, S, ...) turned by `way` % 4 quarters, and mirrored for `way` above 3."""
    turned = np.rot90(array, way % 4)
    return turned[:, ::-1] if way > 3 else turned


def _item(image: NDArray[np.uint8], label: NDArray[np.uint8]) -> Item:
    """Image (S, S, 3) and label (S, S) as tensors."""
    return torch.from_numpy(np.moveaxis(image, -1, 0).copy()), torch.from_numpy(label.copy())


def _chances(tiles: pd.DataFrame, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Chance of each tile: images count equally, their chosen tiles by known fraction."""
    share = np.where(chosen, tiles["known"], 0.0)
    if not share.any():  # no tile with pores: any tile will do
        share = tiles["known"].to_numpy(float)
    per_image = pd.Series(share).groupby(tiles["image"].to_numpy()).transform("sum").to_numpy()
    chance = np.divide(share, per_image, out=np.zeros(len(share)), where=per_image > 0)
    return np.asarray(chance / chance.sum())
