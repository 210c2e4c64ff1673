"""Predict: the stitched pore probabilities of a raster."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from poreseg.errors import warn
from poreseg.files import whole
from poreseg.images.raster import new_raster, open_raster, to_rasterio
from poreseg.images.windows import Window, grid
from poreseg.learning.sliding import Predictor, predict_strips
from poreseg.prediction.engine import load
from poreseg.prediction.polarity import how_seen
from poreseg.prediction.refine import WINDOW, Bounds, Second, bounds, learn_from

# Of strange rasters. A threshold fitted to other materials is not for them, nor is the usual 0.4 for
# calibrated probabilities: their probabilities are too high (docs/accuracy.md).
STRANGE_THRESHOLD = 0.5
LEVELS = 4096  # of probability: finer ones are noise of bf16, and treble the file
LINEAGE = ("git_commit", "data_hash", "params_hash", "mlflow_run_id")
Parts = Iterable[tuple[Window, NDArray[np.float32]]]  # of a raster, with values (B, H, W)


def predict(
    raster: Path | str,
    models: Sequence[Path | str],
    out: Path | str,
    *,
    threads: int,
    **settings: Any,
) -> None:
    """Write the pore probabilities of a raster.

    Parameters
    ----------
    raster
        Canonical raster.
    models
        Model folders; of several the mean is taken.
    out
        GeoTIFF to write, see `predict_with`.
    threads
        Of the processor, where there is no GPU.

    The other parameters are the `predict` section of params.yaml.
    """
    predict_with([load(folder, threads) for folder in models], raster, out, **settings)


def predict_with(
    models: Sequence[Predictor],
    raster: Path | str,
    out: Path | str,
    *,
    window: int,
    overlap: int,
    batch: int,
    tta: str,
    spread: bool,
    polarity: str,
    refine: str,
) -> None:
    """Write the pore probabilities of a raster, by loaded models.

    `out` is a GeoTIFF of float32 in 0..1 on the raster's grid, NaN where there is no
    specimen; with `spread`, a second band is the standard deviation over models and views.
    Its tags: the source's digest (SOURCE_SHA256); the models' lineage and mean THRESHOLD
    (`STRANGE_THRESHOLD` for a strange raster); POLARITY, "as it is" or "inverted" (`polarity` is
    "keep", "invert" or "auto"), and STRANGE, whether it is unlike all training images, see
    `how_seen`; and REFINED, the weight of its own colours (0 to 1), see `poreseg.prediction.refine`.
    """
    name, seen = Path(raster).stem, how_seen(models, raster, polarity)
    if seen.why:
        warn(f"{name}: {seen.why}, so the model saw it with bright and dark exchanged (predict.polarity: keep, to have it seen as it is)")  # fmt: skip
    if seen.strange:
        warn(f"{name}: looks like no image that the model has learned from; look at its pores, and label some like it for training")  # fmt: skip
    tags = {key.upper(): ",".join(str(model.card[key]) for model in models) for key in LINEAGE}
    fitted = float(np.mean([model.card["threshold"] for model in models]))  # to known materials
    threshold = STRANGE_THRESHOLD if seen.strange else fitted
    tags["THRESHOLD"] = str(threshold)
    tags["REFINED"] = "0"
    tags["POLARITY"] = "inverted" if seen.inverse else "as it is"
    tags["STRANGE"] = str(seen.strange).lower()
    with open_raster(raster) as source:
        tags["SOURCE_SHA256"] = source.tags.get("SOURCE_SHA256", "")
        about = {"shape": (1 + spread, source.height, source.width), "crs": source.crs,
                 "transform": source.transform, "tags": tags}  # fmt: skip
    bar = tqdm(desc=name, unit="px", unit_scale=True, mininterval=2)
    with bar, whole(out) as found:
        computed = predict_strips(models, raster, window=window, overlap=overlap, batch=batch, tta=tta,
                                  spread=spread, inverse=seen.inverse, progress=bar)  # fmt: skip
        strips = ((Window(row, 0, *values.shape[1:]), values) for row, values in computed)
        _write(found, strips, about)
        between = bounds(refine, strange=seen.strange)
        second = between and _second(raster, found, threshold, between)
        if second and second.share:
            about["tags"] = tags | {"REFINED": str(second.share)}
            _write(found, _refined(raster, found, second, 1 + spread), about)


def _second(raster: Path | str, found: Path, threshold: float, between: Bounds) -> Second:
    """The second model of a raster, fitted to a network's probabilities."""
    with open_raster(raster) as image, open_raster(found) as network:
        return learn_from(image, network.band, threshold, between)


def _refined(raster: Path | str, found: Path, second: Second, bands: int) -> Parts:
    """Windows of probabilities, refined by the raster's colours."""
    with open_raster(raster) as image, open_raster(found) as network:
        for window in grid(image.height, image.width, WINDOW):
            values = np.stack([network.band(window, band) for band in range(1, bands + 1)])
            values[0] = second.refined(image, window, values[0])
            yield window, values


def _write(out: Path, parts: Parts, about: dict[str, Any]) -> None:
    """Write values of a raster's parts."""
    with new_raster(out, dtype=np.float32, nodata=np.nan, **about) as target:
        for window, values in parts:
            rounded = np.rint(values * LEVELS) / np.float32(LEVELS)
            target.write(rounded, window=to_rasterio(window))
