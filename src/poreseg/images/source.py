"""What every image reader returns: an image that is read by window, with its metadata."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS

from poreseg.errors import PoresegError, warn
from poreseg.images.windows import Window

STRIP_BYTES = 32 * 2**20  # read from an image at once, or `ROWS` rows if those are more
ROWS = 256  # a strip's height is a multiple of it: the block of the raster that it goes into


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error of a library into a `PoresegError` that names the file."""
    try:
        yield
    except PoresegError:
        raise
    except FileNotFoundError:
        raise PoresegError(f"{path}: cannot be read as an image, there is no such file") from None
    except Image.DecompressionBombError as error:
        raise PoresegError(f"{path}: {error}; save images of this size as TIFF") from None
    except Exception as error:  # each library fails in its own ways on what is no image
        raise PoresegError(
            f"{path}: cannot be read as an image, it is truncated or of another format "
            f"({str(error) or type(error).__name__}); export it again"
        ) from None


@dataclass(frozen=True)
class Picture:
    """Pixels in memory, of a whole image or of a window of it.

    `bands` is (C, H, W) in the source's dtype; `valid` is (H, W) bool, False where there
    is no specimen (nodata, transparency, NaN); `palette` maps the values of one band to
    RGBA where the source has a colour table; `alpha` is (H, W) where there is one.
    """

    bands: NDArray[Any]
    valid: NDArray[np.bool_]
    palette: dict[int, tuple[int, ...]] | None = None
    alpha: NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bands.shape[1], self.bands.shape[2]

    def crop(self, window: Window) -> "Picture":
        """A window of it."""
        rows, cols = window.slices
        alpha = None if self.alpha is None else self.alpha[rows, cols]
        return Picture(self.bands[:, rows, cols], self.valid[rows, cols], self.palette, alpha)

    def coloured(self) -> "Picture":
        """Palette indices replaced by colours: 1 band if all are gray, else 3."""
        if not self.palette:
            return self
        table = np.zeros((256 if self.bands.dtype == np.uint8 else 65536, 4), np.uint8)
        table[:, 3] = 255
        for value, colour in self.palette.items():
            table[value] = (*colour[:3], colour[3] if len(colour) > 3 else 255)
        valid = self.valid & (table[self.bands[0], 3] > 0)
        table = table[:, : 1 if (table[:, :3] == table[:, :1]).all() else 3]
        colours = np.moveaxis(table[self.bands[0]], -1, 0)
        return Picture(np.ascontiguousarray(colours), valid, alpha=self.alpha)


@dataclass(kw_only=True)
class Source(ABC):
    """An open image.

    `path` is its file, for messages; `count` is the number of bands that `read` gives.
    `scales` are pixel sizes in micrometres by source, the most trustworthy first. `bar_rows` is
    the height of the data bar at the bottom in the maker's metadata, None if not given. `planes`
    is the number of planes in the file.
    """

    path: Path
    height: int
    width: int
    count: int
    dtype: np.dtype[Any]
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    scales: dict[str, float] = field(default_factory=dict)
    bar_rows: int | None = None
    planes: int = 1

    def read(self, window: Window) -> Picture:
        """The pixels within a window."""
        with reading(self.path):
            return self._read(window)

    @abstractmethod
    def _read(self, window: Window) -> Picture: ...

    @property
    def frame(self) -> Window:
        """The whole image as a window."""
        return Window(0, 0, self.height, self.width)

    def strips(self) -> Iterator[tuple[Window, Picture]]:
        """The image, coloured, from top to bottom in strips of its full width.

        Any format can give these without going back.
        """
        row_bytes = self.width * max(self.count, 1) * self.dtype.itemsize
        rows = max(1, STRIP_BYTES // (row_bytes * ROWS)) * ROWS
        for row in range(0, self.height, rows):
            window = Window(row, 0, min(rows, self.height - row), self.width)
            yield window, self.read(window).coloured()


@dataclass(kw_only=True)
class InMemory(Source):
    """An image whose format is only read whole, or that is mapped into memory."""

    picture: Picture

    @classmethod
    def of(cls, path: Path, picture: Picture) -> "InMemory":
        """A source of a picture."""
        count, height, width = picture.bands.shape
        return cls(
            path=path,
            height=height,
            width=width,
            count=count,
            dtype=picture.bands.dtype,
            picture=picture,
        )

    def _read(self, window: Window) -> Picture:
        return self.picture.crop(window)


@dataclass(frozen=True)
class Choice:
    """The channels and the plane to read, numbered from 1; None is the default."""

    channels: tuple[int, ...] | None = None
    plane: int | None = None
    # stored values count, even nodata 0; `plane` is ignored in files of one plane; no scale is read
    of_label: bool = False

    def plane_of(self, path: Path, count: int, axes: str) -> int:
        """The chosen one of `count` planes; `axes` is for messages."""
        wanted = None if self.plane is None or (self.of_label and count == 1) else (self.plane,)
        if self.of_label and wanted is None and count > 1:
            warn(f"{path}: {count} planes{axes}; the first is taken. If another one shows the pores, "
                 "save it as a file of its own")  # fmt: skip
            wanted = (1,)
        return pick(path, f"planes{axes}", wanted, count, (1,), "plane")[0]

    def channels_of(
        self, path: Path, what: str, count: int, default: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The chosen of `count` channels, called `what` in messages."""
        return pick(path, what, self.channels, count, default, "" if self.of_label else "channel")


def pick(
    path: Path,
    what: str,
    wanted: tuple[int, ...] | None,
    count: int,
    default: tuple[int, ...],
    column: str,
) -> tuple[int, ...]:
    """The chosen of `count` channels or planes; warns if the default omits some.

    `column` is that of samples.csv where others can be named, if there is one.
    """
    if wanted:
        if not all(1 <= number <= count for number in wanted):
            raise PoresegError(
                f"{path}: {column} is {', '.join(map(str, wanted))}; wanted 1 to {count}, its {what}"
            )
        return wanted
    if count > len(default):
        advice = (
            f"Name others as {column} in samples.csv, or with --{column}"
            if column
            else "Save the label with these alone"
        )
        warn(f"{path}: {count} {what}; reading {' '.join(map(str, default))}. {advice}")
    return default


def pick_bands(path: Path, choice: Choice, count: int) -> tuple[int, ...]:
    """The chosen bands of an image; by default the first three, or one if there are fewer."""
    return choice.channels_of(path, "bands", count, (1,) if count < 3 else (1, 2, 3))


def chosen_bands(path: Path, bands: NDArray[Any], choice: Choice) -> NDArray[Any]:
    """The chosen of bands (C, H, W), copied only if some are omitted or reordered."""
    chosen = pick_bands(path, choice, len(bands))
    whole = chosen == tuple(range(1, len(bands) + 1))
    return bands if whole else bands[[band - 1 for band in chosen]]
