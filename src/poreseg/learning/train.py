"""Train: a U-Net on a few labelled images; the best IoU on held-out ones selects it."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from poreseg.errors import PoresegError
from poreseg.files import digest, read_json, sha256, whole
from poreseg.images.raster import open_raster
from poreseg.learning.calibrate import STITCHED, apply_temperature, calibrate
from poreseg.learning.card import CARD, THRESHOLD, images_behind, read_card
from poreseg.learning.dataset import Crops, Drawn, WithDrawn
from poreseg.learning.looks import looks_of
from poreseg.learning.loop import Learned, Recipe, fit
from poreseg.learning.model import EVEN, Model, load_model, save_model, start_network
from poreseg.learning.pipeline import load_pipeline
from poreseg.learning.sliding import predict_raster
from poreseg.lineage import data_hash, git_commit
from poreseg.metrics import count
from poreseg.names import by_name
from poreseg.tables import read_table, write_table
from poreseg.tracking import Silent

Labelled = tuple[Path, Path]  # raster and label of an image


def train(
    tiles: Path | str,
    rasters: Sequence[Path | str],
    labels: Sequence[Path | str],
    pipeline: Path | str,
    encoder_card: Path | str,
    start: Path | str,
    sources: Sequence[Path | str],
    model: Path | str,
    history: Path | str,
    *,
    fold: int | None,
    checkpoints: Path | str,
    threads: int,
    workers: int,
    tracker: Silent,
    pore_share: float,
    drawn: float,
    seed: int,
    **recipe: Any,
) -> None:
    """Train the model of one fold, or the final one on all training images.

    Parameters
    ----------
    tiles
        tiles.csv; the fold's held-out images validate. It lists no test image.
    rasters, labels
        Of its images.
    pipeline, encoder_card
        What the verbs augment and encoder wrote.
    start
        Safetensors of an encoder or of a whole U-Net.
    sources
        Files of the code; a killed training is not resumed when one of them has changed.
    model
        Folder to write: smp's own files, poreseg.json, model.onnx and looks.safetensors.
    history
        CSV to write, see `Learned`.
    fold
        Whose images are held out. None: no images are, and `start` lies in the folder of the
        chosen model, whose threshold and temperature are taken over.
    checkpoints
        Folder of checkpoints, from which a killed training resumes.
    threads
        Processor threads of torch.
    workers
        Processes that prepare crops.

    The other parameters are the `train` section of params.yaml.

    Raises
    ------
    PoresegError
        `start` has another encoder, mean or std, or no pixel of the training images is labelled.
    """
    tracker.claim(model)
    pace = Recipe(**recipe, workers=workers)
    _check_start(start, encoder_card)
    number = 1000 * seed + (999 if fold is None else fold)  # other crops in each training
    settings = {**recipe, "pore_share": pore_share, "drawn": drawn, "seed": seed, "fold": fold}
    augment, encoder = read_json(pipeline), read_json(encoder_card)

    # data
    raster_of, label_of = by_name(rasters), by_name(labels)
    table = read_table(tiles)
    held_out = table["fold"] == fold
    trained_on, validated_on = (sorted(table[rows]["image"].unique()) for rows in (~held_out, held_out))  # fmt: skip
    crops = Crops(table[~held_out], raster_of, label_of, load_pipeline(pipeline),
                  pore_share=pore_share, seed=number)  # fmt: skip
    specimens = Drawn(augment["crop_px"], number, inverse=drawn > 0 and crops.bright())
    items = WithDrawn(crops, specimens, drawn)
    validation = [(raster_of[name], label_of[name]) for name in validated_on]
    card: dict[str, Any] = {
        "encoder": encoder, "mean": encoder["mean"], "std": encoder["std"],
        "threshold": THRESHOLD, "temperature": 1.0, "validation_iou": None,
        "fold": fold, "images": trained_on, "validation_images": validated_on,
        "start_images": sorted(images_behind(Path(start).parent)),
        "git_commit": git_commit(), "data_hash": data_hash([*rasters, *labels]),
        "params_hash": digest([settings, augment, sha256(start)]), "mlflow_run_id": tracker.run_id,
        **_stretch(rasters[0]),
    }  # fmt: skip

    # network
    torch.manual_seed(number)
    network = start_network(encoder["name"], start)
    if fold is None:
        chosen = read_card(Path(start).parent)
        card |= {key: chosen[key] for key in ("threshold", "temperature")}
        apply_temperature(network, 1 / card["temperature"])
    made_of = [card["params_hash"], card["data_hash"], *map(sha256, (tiles, *sources))]
    key = digest(made_of)[:16]
    tracker.params({**settings, "start": str(start)})
    tracker.params({f"augment.{key}": value for key, value in augment["settings"].items()})
    tracker.params({f"encoder.{key}": value for key, value in encoder.items()})

    # learn
    store = Path(checkpoints) / key
    learned = fit(
        network, items, partial(validate, images=validation) if validation else None, card, pace, store,
        name="refit on all" if fold is None else f"train fold {fold}", threads=threads, tracker=tracker,
    )  # fmt: skip
    card |= {"steps": learned.steps, "minutes": learned.minutes, "precision": learned.precision}
    if validation:
        card["validation_iou"] = learned.best
        found = calibrate(Model(network, card, learned.precision), validation)
        card["temperature"], card["threshold"] = found
    else:
        apply_temperature(network, card["temperature"])
    seen = looks_of(Model(network, card), [raster_of[name] for name in trained_on])
    network.cpu()

    # keep
    with whole(model) as folder:
        save_model(folder, Model(network, card, seen=seen))
    write_table(history, learned.table)
    _track(tracker, card, learned, model)
    shutil.rmtree(store, ignore_errors=True)


def _stretch(raster: Path | str) -> dict[str, float]:
    """Percentiles that images are stretched by, new ones as well."""
    with open_raster(raster) as source:
        return {key: float(source.tags[key.upper()]) for key in ("low_percentile", "high_percentile")}  # fmt: skip


def _track(tracker: Silent, card: dict[str, Any], learned: Learned, model: Path | str) -> None:
    """Log the results and the model with the tracker."""
    tracker.params({"precision_used": learned.precision, "device": learned.device})
    tracker.tags({key: card[key] for key in ("git_commit", "data_hash", "params_hash")})
    tracker.tags({"encoder": card["encoder"]["name"], "encoder_weights": card["encoder"]["source"]})
    tracker.metrics({"best_validation_iou": card["validation_iou"]})
    plain = load_model(model, torch.device("cpu")).network
    tracker.model(plain, torch.zeros(1, 3, 64, 64).numpy())


def _check_start(start: Path | str, encoder_card: Path | str) -> None:
    """Raise if `start` is of a model whose encoder name, mean or std differs from the card's."""
    if not Path(start).with_name(CARD).is_file():
        return
    had, wanted = read_card(Path(start).parent)["encoder"], read_json(encoder_card)
    if any(had[key] != wanted[key] for key in ("name", "mean", "std")):
        raise PoresegError(
            f"train.start: the model in {Path(start).parent} has the encoder {had['name']}, this build "
            f"{wanted['name']}, or their mean and std differ; name the model's in encoder.name, or start from encoder"
        )


def validate(model: Model, images: Sequence[Labelled]) -> dict[str, float | None]:
    """IoU of whole, stitched images by name; None for those whose label holds no pore."""
    ious = {}
    for raster_path, label_path in images:
        found = predict_raster([model], raster_path, **STITCHED, tta="none")
        with open_raster(label_path) as label:
            ious[raster_path.stem] = count(found >= EVEN, label.band()).iou
    return ious
