"""Helpers that the benchmarks share."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poreseg.images.raster import open_raster, write_raster
from poreseg.images.windows import Window
from poreseg.learning.sliding import Predictor
from poreseg.prediction.predict import predict_with


def peak_mib() -> int:
    """Peak resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status").read_text()  # getrusage would include the parent's peak
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def mosaic_strips(
    rasters: list[Path], height: int, width: int
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Strips (rows, width, 3) of a mosaic: rasters side by side, every second one mirrored."""
    images = cycle(rasters)
    top = 0
    while top < height:
        parts: list[NDArray[np.uint8]] = []
        while sum(part.shape[1] for part in parts) < width:
            with open_raster(next(images)) as raster:
                shown = raster.shown()
            parts.append(shown[:, ::-1] if len(parts) % 2 else shown)
        rows = min(height - top, *(len(part) for part in parts))
        joined = np.concatenate([part[:rows] for part in parts], axis=1)[:, :width]
        yield Window(top, 0, rows, width), joined
        top += rows


def write_inverse(raster: Path, to: Path) -> None:
    """Write an inverted copy of a raster."""
    with open_raster(raster) as source:
        pixels, valid, tags = source.shown(), source.valid(), source.tags
    levels = {**tags, "LOW": 0, "HIGH": 255}
    write_raster(to, np.moveaxis(255 - pixels, -1, 0), valid=valid, tags=levels)


def predicted(model: Predictor, raster: Path, **settings: Any) -> tuple[NDArray[np.float32], float]:
    """Probabilities (H, W) and threshold, as the verb predict writes them; `settings` are its params."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / raster.name
        predict_with([model], raster, out, **settings)
        with open_raster(out) as found:
            return found.band(), float(found.tags["THRESHOLD"])


def report(found: dict[str, Any], file: Path | None) -> None:
    """Write the figures as JSON, if a file is given."""
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")
