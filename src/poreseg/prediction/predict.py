"""Predict: the stitched pore probabilities of a raster."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from poreseg.images.raster import open_raster, write_raster
from poreseg.learning.model import device_of_choice, load_model, precision_of, predict_raster

LINEAGE = ("git_commit", "data_hash", "params_hash", "mlflow_run_id")


def predict(
    raster: Path | str,
    models: Sequence[Path | str],
    out: Path | str,
    *,
    threads: int,
    window: int,
    overlap: float,
    batch: int,
    tta: str,
) -> None:
    """Write the pore probabilities of a raster.

    Parameters
    ----------
    raster
        Canonical raster.
    models
        Model folders; of several the mean is taken.
    out
        GeoTIFF to write: float32 in 0..1 on the raster's grid, NaN where there is no
        specimen; its tags carry the models' lineage and threshold.
    threads
        Of the processor, where there is no GPU.

    The other parameters are the `predict` section of params.yaml.
    """
    torch.set_num_threads(threads)
    device = device_of_choice()
    loaded = [load_model(folder, device) for folder in models]
    with open_raster(raster) as source:
        with tqdm(desc=Path(raster).stem, unit="window", mininterval=2) as bar:
            found = predict_raster(
                loaded, source, window=window, overlap=overlap, batch=batch, tta=tta == "d4",
                precision=precision_of(device), progress=bar,
            )  # fmt: skip
        found[~source.valid()] = np.nan
        tags = {key.upper(): ",".join(str(model.card[key]) for model in loaded) for key in LINEAGE}
        tags["THRESHOLD"] = str(float(np.mean([model.threshold for model in loaded])))
        if source.pixel_size_um:
            tags["PIXEL_SIZE_UM"] = str(source.pixel_size_um)
        write_raster(
            out, found, nodata=np.nan, crs=source.crs, transform=source.transform, tags=tags
        )
