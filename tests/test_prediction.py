"""Prediction: engines that agree, whole files or none, GPUs that are not shared."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import rasterio
import torch
from affine import Affine
from conftest import ingest_array
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from poreseg import cli, devices
from poreseg.devices import VISIBLE, gpu_percent, gpus, own_gpu
from poreseg.errors import PoresegError, PoresegWarning
from poreseg.images.raster import open_raster, write_raster
from poreseg.images.windows import Window, grid
from poreseg.learning.card import GRAPH
from poreseg.learning.looks import look_of, looks_of
from poreseg.learning.model import (
    Model,
    build_network,
    device_of_choice,
    load_model,
    save_model,
)
from poreseg.prediction import polarity, refine
from poreseg.prediction.engine import Graph, load
from poreseg.prediction.likeness import Likeness, likeness, unlike
from poreseg.prediction.polarity import CLEAR, CLEARER, Seen, clearer_inverted, how_seen
from poreseg.prediction.predict import predict, predict_with
from poreseg.prediction.segment import segment

CPU = torch.device("cpu")
SETTINGS = {
    "window": 96,
    "overlap": 32,
    "batch": 2,
    "tta": "none",
    "spread": False,
    "polarity": "auto",
    "refine": "never",
}
CARD = {
    "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "threshold": 0.5, "validation_iou": 0.5,
    "git_commit": "c0ffee", "data_hash": "d", "params_hash": "p", "mlflow_run_id": None,
}  # fmt: skip
WINDOWS = np.random.default_rng(0).integers(0, 255, (2, 96, 64, 3), np.uint8)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose probabilities spread over 0 to 1, as a trained one's do."""
    torch.manual_seed(3)
    network = build_network("resnet18").eval()
    model = Model(network, CARD)
    with torch.no_grad():
        last = network.segmentation_head[0]
        middle = torch.logit(torch.from_numpy(model.probabilities(WINDOWS)))
        scale = 4 / middle.std()
        last.weight *= scale
        last.bias.copy_((last.bias - middle.median()) * scale)
    found = tmp_path_factory.mktemp("model") / "fold-0"
    save_model(found, model)
    return found


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv(VISIBLE, "-1")


# engines


def test_another_runtime_gives_the_same_mask_from_the_export(folder, tmp_path):
    done = CliRunner().invoke(cli.app, ["export", str(folder), "-o", str(tmp_path / "m.onnx")])
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (found,) = session.run(None, {"windows": WINDOWS})
    wanted = load_model(folder, CPU)
    wanted = Model(wanted.network, wanted.card).probabilities(WINDOWS)
    assert 0.2 < (wanted >= 0.5).mean() < 0.8
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert iou(found >= 0.5, wanted >= 0.5) > 0.999


@pytest.mark.parametrize("given", [["--format", "tflite", "-o", "m"], ["-o", "."]])
def test_what_cannot_be_exported_is_told(folder, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["export", str(folder), *given])
    assert isinstance(done.exception, PoresegError)
    assert not list(tmp_path.iterdir())


def test_the_processor_computes_what_torch_computes(folder, no_gpu):
    graph = load(folder, threads=2)
    assert isinstance(graph, Graph)
    wanted = load_model(folder, CPU).probabilities(WINDOWS)
    for windows, values in [(WINDOWS, wanted), (WINDOWS[:1], wanted[:1])]:  # another shape
        found = graph.probabilities(windows)
        assert (found.dtype, found.shape) == (np.float32, values.shape)
        assert np.abs(found - values).mean() < 0.02  # both may compute in bf16
        assert iou(found >= 0.5, values >= 0.5) > 0.95


def test_a_model_without_a_graph_runs_on_torch(folder, no_gpu, tmp_path):
    save_model(tmp_path / "m", load_model(folder, CPU))
    (tmp_path / "m" / GRAPH).unlink()
    assert isinstance(load(tmp_path / "m", threads=1), Model)


def test_a_damaged_graph_is_told(folder, no_gpu, tmp_path):
    save_model(tmp_path / "m", load_model(folder, CPU))
    (tmp_path / "m" / GRAPH).write_bytes(b"no graph")
    with pytest.raises(PoresegError, match="train it again"):
        load(tmp_path / "m", threads=1)


def test_prediction_on_a_processor_loads_no_torch(folder, tmp_path):
    ingest_array(tmp_path / "r.tif", WINDOWS[0, ..., 0])
    code = f"""
import sys
from poreseg.prediction.predict import predict
predict({str(tmp_path / "r.tif")!r}, [{str(folder)!r}], {str(tmp_path / "p.tif")!r}, threads=1, **{SETTINGS})
print("torch" in sys.modules)
"""
    done = run(code)
    assert done.stdout.strip() == "False", done.stderr


def run(code, arguments=()):
    environment = os.environ | {VISIBLE: "-1"}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)  # fmt: skip


def test_the_engine_tells_nobody_that_it_is_used():
    code = "import os; os.register_at_fork(before=lambda: print('forked')); import poreseg.prediction.engine, sys, time; time.sleep(1); print(sys.modules['openvino_telemetry'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={key: value for key, value in os.environ.items() if key != "CI"})  # fmt: skip
    assert done.stdout == "None\n"


# refinement


SIDE = 200


def partly_seen(tmp_path, contrast=90):
    """Canonical raster and pores of a specimen, and probabilities that leave out a quarter of them."""
    draw = np.random.default_rng(0)
    pore = gaussian_filter(draw.normal(size=(SIDE, SIDE)), 6) > 0.02
    rough = 12 * draw.normal(size=pore.shape)
    ingest_array(
        tmp_path / "r.tif", np.clip(150 - contrast * pore + rough, 0, 255).astype(np.uint8)
    )
    found = np.where(pore, 0.9, 0.05).astype(np.float32)
    found[SIDE // 2 :, SIDE // 2 :][pore[SIDE // 2 :, SIDE // 2 :]] = 0.2
    return pore, found


def refined_by(tmp_path, found, between=refine.STRANGE):
    with open_raster(tmp_path / "r.tif") as raster:
        second = refine.learn_from(raster, lambda part: found[part.slices], 0.4, between)
        whole = second.refined(raster, raster.frame, found)
        return second, whole


def test_an_images_own_colours_say_where_its_pores_end(tmp_path):
    pore, found = partly_seen(tmp_path)
    second, better = refined_by(tmp_path, found)
    assert second.share > 0.5
    assert iou(found >= 0.4, pore) < 0.8
    assert iou(better >= 0.4, pore) > 0.95


@pytest.mark.parametrize("found", ["pores that no colour tells", "no pores", "no specimen"])
def test_a_network_keeps_its_word_where_colours_tell_nothing(tmp_path, found):
    _, found = {
        "pores that no colour tells": partly_seen(tmp_path, contrast=0),
        "no pores": (None, np.full((SIDE, SIDE), 0.1, np.float32)),
        "no specimen": (None, np.full((SIDE, SIDE), np.nan, np.float32)),
    }[found]
    second, same = refined_by(tmp_path, found)
    assert second.share == 0
    np.testing.assert_array_equal(same, found)


def test_a_refined_raster_is_the_same_whatever_the_windows(tmp_path):
    _, found = partly_seen(tmp_path)
    second, whole = refined_by(tmp_path, found)
    parts = np.empty_like(found)
    with open_raster(tmp_path / "r.tif") as raster:
        for part in grid(SIDE, SIDE, 70):
            parts[part.slices] = second.refined(raster, part, found[part.slices])
    np.testing.assert_allclose(parts, whole, atol=1e-5)  # filters sum in another order


def test_refinement_leaves_what_is_no_specimen_and_the_spread(knowing, no_gpu, tmp_path):
    valid = np.ones((128, 160), bool)
    valid[:, 150:] = False
    ingest_array(tmp_path / "r.tif", specimen(1), valid=valid)
    both = {}
    for chosen in ("never", "always"):
        predict(tmp_path / "r.tif", [knowing], tmp_path / f"{chosen}.tif", threads=1,
                **SETTINGS | {"refine": chosen, "spread": True, "tta": "d4"})  # fmt: skip
        with rasterio.open(tmp_path / f"{chosen}.tif") as written:
            both[chosen], tags = written.read(), written.tags()
        assert (float(tags["REFINED"]) > 0) == (chosen == "always")
    plain, fine = both.values()
    np.testing.assert_array_equal(np.isfinite(fine[0]), valid)
    np.testing.assert_array_equal(plain[1], fine[1])
    assert 0 <= np.nanmin(fine[0]) <= np.nanmax(fine[0]) <= 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


@pytest.mark.parametrize(
    ("choice", "of_strange", "of_known"),
    [("auto", refine.STRANGE, refine.KNOWN), ("always", refine.STRANGE, refine.STRANGE), ("never", None, None)],
)  # fmt: skip
def test_where_a_network_knows_the_material_colours_have_to_agree_more(
    choice, of_strange, of_known
):
    assert refine.bounds(choice, strange=True) == of_strange
    assert refine.bounds(choice, strange=False) == of_known


def test_half_agreeing_colours_speak_in_strange_images_alone(tmp_path):
    _, found = partly_seen(tmp_path, contrast=25)
    says, better = refined_by(tmp_path, found)
    assert 0 < says.share < 1
    assert not np.array_equal(better, found)
    silent, same = refined_by(tmp_path, found, refine.KNOWN)
    assert silent.share == 0
    np.testing.assert_array_equal(same, found)


# polarity


def specimen(seed):
    """Gray levels (128, 160) of dark pores in a rough bright matrix."""
    draw = np.random.default_rng(seed)
    noise = gaussian_filter(draw.normal(size=(128, 160)), 3)
    matrix = 190 + 12 * gaussian_filter(draw.normal(size=noise.shape), 1) / 0.28
    return np.clip(np.where(noise > 0.1, 40, matrix), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def knowing(folder, tmp_path_factory):
    """The model with the looks of two specimens."""
    place = tmp_path_factory.mktemp("knowing")
    for seed in (1, 2):
        ingest_array(place / f"{seed}.tif", specimen(seed))
    model = load_model(folder, CPU)
    seen = looks_of(model, [place / "1.tif", place / "2.tif"])
    save_model(place / "m", replace(model, seen=seen))
    return place / "m"


def probabilities(path):
    with rasterio.open(path) as found:
        return found.read(1), found.tags()["POLARITY"]


def test_engines_see_the_same(knowing, no_gpu):
    graph = load(knowing, threads=1)
    assert isinstance(graph, Graph)
    wanted = load_model(knowing, CPU).moments(WINDOWS)
    assert wanted.shape == (2, 2, 5 * 128)  # channels of resnet18's second stage
    np.testing.assert_allclose(graph.moments(WINDOWS), wanted, rtol=1e-3, atol=1e-4)


def test_an_inverse_of_what_is_known_is_seen_inverted_and_told(knowing, no_gpu, tmp_path):
    """Without it a network that has learned dark pores finds no bright ones."""
    pixels = specimen(3)
    ingest_array(tmp_path / "dark.tif", pixels)
    ingest_array(tmp_path / "bright.tif", 255 - pixels)
    predict(tmp_path / "dark.tif", [knowing], tmp_path / "d.tif", threads=1, **SETTINGS)
    with pytest.warns(PoresegWarning, match="bright: its inverse looks like"):
        predict(tmp_path / "bright.tif", [knowing], tmp_path / "b.tif", threads=1, **SETTINGS)
    dark, seen = probabilities(tmp_path / "d.tif")
    assert seen == "as it is"
    bright, seen = probabilities(tmp_path / "b.tif")
    assert seen == "inverted"
    np.testing.assert_allclose(bright, dark, atol=0.02)  # gray levels are rounded


@pytest.mark.parametrize(("given", "seen"), [("keep", "as it is"), ("invert", "inverted")])
def test_polarity_is_the_users_where_they_say_so(knowing, no_gpu, tmp_path, given, seen):
    pixels = specimen(3) if given == "invert" else 255 - specimen(3)
    ingest_array(tmp_path / "r.tif", pixels)
    with pytest.warns(PoresegWarning, match="r: looks like no image"):  # seen so
        predict(tmp_path / "r.tif", [knowing], tmp_path / "p.tif", threads=1, **SETTINGS | {"polarity": given})  # fmt: skip
    assert probabilities(tmp_path / "p.tif")[1] == seen


def test_a_model_that_knows_both_polarities_inverts_neither(folder, no_gpu, tmp_path):
    model = load_model(folder, CPU)
    for name, pixels in (("dark", specimen(1)), ("bright", 255 - specimen(2)), ("new", 255 - specimen(3))):  # fmt: skip
        ingest_array(tmp_path / f"{name}.tif", pixels)
    both = replace(model, seen=looks_of(model, [tmp_path / "dark.tif", tmp_path / "bright.tif"]))
    assert not likeness([both], tmp_path / "new.tif").inverted
    dark = replace(model, seen={"dark": both.seen["dark"]})
    assert likeness([dark], tmp_path / "new.tif").inverted


def test_an_image_unlike_all_that_is_known_is_left_as_it_is_and_told(knowing, no_gpu, tmp_path):
    stripes = np.tile(np.where(np.arange(96) % 6 < 3, 20, 235).astype(np.uint8), (96, 1))
    ingest_array(tmp_path / "r.tif", stripes)
    with pytest.warns(PoresegWarning, match="r: looks like no image"):
        predict(tmp_path / "r.tif", [knowing], tmp_path / "p.tif", threads=1, **SETTINGS)
    assert probabilities(tmp_path / "p.tif")[1] == "as it is"


def test_a_threshold_that_was_fitted_to_other_materials_is_not_that_of_a_stranger(
    knowing, no_gpu, tmp_path
):
    stripes = np.tile(np.where(np.arange(96) % 6 < 3, 20, 235).astype(np.uint8), (96, 1))
    model = load(knowing, threads=1)
    model.card["threshold"] = 0.3
    for name, pixels, wanted in (("known", specimen(3), 0.3), ("strange", stripes, 0.5)):
        ingest_array(tmp_path / f"{name}.tif", pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PoresegWarning)
            predict_with([model], tmp_path / f"{name}.tif", tmp_path / "p.tif", **SETTINGS)
        with rasterio.open(tmp_path / "p.tif") as found:
            assert float(found.tags()["THRESHOLD"]) == wanted


def test_a_study_of_one_look_calls_no_image_of_it_strange(knowing, no_gpu, tmp_path):
    ingest_array(tmp_path / "r.tif", specimen(3))
    found = likeness([load(knowing, threads=1)], tmp_path / "r.tif")
    assert not found.strange(inverse=False)
    assert not found.inverted


@pytest.mark.parametrize(
    ("found", "inverted"),
    [
        (Likeness(0.010, 0.002), True),
        (Likeness(0.002, 0.010), False),
        (Likeness(0.005, 0.004), False),  # hardly nearer
        (Likeness(0.050, 0.010), False),  # much nearer, and strange all the same
    ],
)
def test_an_inverse_is_familiar_only_where_it_is_known_and_much_nearer(found, inverted):
    assert found.inverted is inverted


class FindsDark:
    """Finds what is dark in bright surroundings, and in dark ones a few bits of this and that."""

    def __init__(self, *, few=np.inf):
        self.few = few

    def probabilities(self, windows):
        dark = windows[..., 0] < 100
        bits = np.zeros(dark.shape, bool)
        bits[:, ::8, ::3] = True
        bits &= bits.reshape(len(bits), -1).cumsum(axis=1).reshape(bits.shape) <= self.few
        return np.where(dark if windows.mean() > 128 else bits, 0.9, 0.1).astype(np.float32)


def blobs():
    """Dark blobs on a bright ground (90, 100), whose sides suit no network."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(90, 100)), 4)
    return np.where(noise > 0.05, 40, 200).astype(np.uint8)


def nearly_gray():
    """Bright blobs as a camera sees them: channels differ by noise, and in a few pixels by more."""
    noise = np.random.default_rng(1).integers(-3, 4, (3, 90, 100))
    pixels = np.clip(255 - blobs() + noise, 0, 255).astype(np.uint8)
    pixels[0, 10:15, 10:15] = 255  # a mark
    return pixels


@pytest.mark.parametrize(
    ("pixels", "inverted"),
    [
        (255 - blobs(), True),
        (blobs(), False),
        (nearly_gray(), True),
        (np.stack([255 - blobs(), 250 - blobs(), 235 - blobs()]), False),  # colours tell nothing
        # as dark as bright: bits both ways
        (np.tile(np.arange(128, dtype=np.uint8), (96, 1)), False),
        (np.tile(255 - blobs(), (6, 6)), True),  # of several windows
    ],
    ids=["inverse", "as it is", "nearly gray", "coloured", "no pores", "large"],
)
def test_a_strange_image_is_inverted_where_its_pores_are_clearer_so(tmp_path, pixels, inverted):
    ingest_array(tmp_path / "r.tif", pixels)
    assert clearer_inverted([FindsDark()], tmp_path / "r.tif") is inverted
    assert clearer_inverted([FindsDark(), FindsDark(few=0)], tmp_path / "r.tif") is inverted


@pytest.mark.parametrize(("few", "inverted"), [(0, False), (5, False), (40, False), (200, True)])
def test_an_image_with_hardly_a_pore_stays_as_it_is(tmp_path, few, inverted):
    """What is found in the inverse of a solid is its bright grains."""
    ingest_array(tmp_path / "r.tif", 255 - blobs())
    assert clearer_inverted([FindsDark(few=few)], tmp_path / "r.tif") is inverted


def test_what_is_no_specimen_has_no_say_in_polarity(tmp_path):
    valid = np.ones((90, 100), bool)
    ingest_array(tmp_path / "whole.tif", 255 - blobs(), valid=valid)
    valid[:40] = False  # where the few bits are that are found as it is
    ingest_array(tmp_path / "part.tif", 255 - blobs(), valid=valid)
    assert clearer_inverted([FindsDark(few=200)], tmp_path / "whole.tif")
    assert not clearer_inverted([FindsDark(few=200)], tmp_path / "part.tif")


@pytest.mark.parametrize(
    ("as_it_is", "inverse", "inverted"),
    [
        (0.5, 0.48 + CLEARER, False), (0.5, 0.52 + CLEARER, True), (0.5, 0.1, False),
        (CLEAR - 0.02, CLEAR + CLEARER, True), (CLEAR, 1.0, False),  # clear either way
    ],
)  # fmt: skip
def test_the_inverse_is_to_be_decidedly_clearer(tmp_path, monkeypatch, as_it_is, inverse, inverted):
    def learn(seen, pore, threshold):
        bits = (pore >= threshold).mean() < 0.1  # which are found as it is
        return None, as_it_is if bits else inverse

    monkeypatch.setattr(polarity, "learn", learn)
    ingest_array(tmp_path / "r.tif", 255 - blobs())
    assert clearer_inverted([FindsDark()], tmp_path / "r.tif") is inverted


@pytest.mark.parametrize(
    ("found", "clearer", "seen"),
    [
        (None, True, Seen(False, strange=False)),
        (Likeness(0.005, 0.009), True, Seen(False, strange=False)),  # known: nobody asks
        (Likeness(0.020, 0.005), False, Seen(True, False, "its inverse looks like")),
        (Likeness(0.020, 0.019), False, Seen(False, strange=True)),
        (Likeness(0.020, 0.019), True, Seen(True, True, "its pores are clearer")),
        # much nearer, and strange all the same
        (Likeness(0.050, 0.010), True, Seen(True, True, "its pores are clearer")),
        (Likeness(0.008, 0.007), False, Seen(False, strange=True)),
        (Likeness(0.008, 0.007), True, Seen(True, False, "its pores are clearer")),  # hardly nearer
    ],
)
def test_how_an_image_is_seen_and_why(monkeypatch, found, clearer, seen):
    monkeypatch.setattr(polarity, "likeness", lambda *_: found)
    monkeypatch.setattr(polarity, "clearer_inverted", lambda *_: clearer)
    got = how_seen([], "r.tif", "auto")
    assert (got.inverse, got.strange) == (seen.inverse, seen.strange)
    assert (got.why or "").startswith(seen.why or "") and bool(got.why) == bool(seen.why)
    for given in ("keep", "invert"):
        asked = how_seen([], "r.tif", given)
        assert (asked.inverse, asked.why) == (given == "invert", None)


def test_a_stranger_whose_inverse_is_clearer_is_seen_inverted_and_told(
    knowing, no_gpu, tmp_path, monkeypatch
):
    ingest_array(tmp_path / "r.tif", 255 - blobs())
    model = load(knowing, threads=1)
    monkeypatch.setattr(type(model), "probabilities", lambda _, windows: FindsDark().probabilities(windows))  # fmt: skip
    with pytest.warns(PoresegWarning) as told:
        predict_with([model], tmp_path / "r.tif", tmp_path / "p.tif", **SETTINGS)
    ours = [one for one in told if one.category is PoresegWarning]
    assert [str(warning.message).split(",")[0] for warning in ours] == [
        "r: its pores are clearer in its inverse",
        "r: looks like no image that the model has learned from; look at its pores",
    ]
    found, seen = probabilities(tmp_path / "p.tif")
    assert seen == "inverted"
    np.testing.assert_array_equal(found > 0.5, blobs() < 100)


def test_unlikeness_by_hand():
    """Two normal distributions: 1 - sqrt(2 s1 s2 / (s1^2 + s2^2)) exp(-(m1 - m2)^2 / 4 (s1^2 + s2^2))."""
    one = np.array([[0.0, 1.0, 5.0], [1.0, 1.0, 1.0]], np.float32)
    assert unlike(one, one) == 0
    wider = np.array([[0.0, 1.0, 5.0], [4.0, 4.0, 4.0]], np.float32)
    assert unlike(one, wider) == pytest.approx(1 - np.sqrt(4 / 5), abs=0.01)  # but for the floor
    moved = one + np.array([[2.0], [0.0]], np.float32)
    assert unlike(one, moved) == pytest.approx(1 - np.exp(-4 / 8), abs=0.01)


def test_likeness_over_models_is_the_mean_of_their_nearest(knowing, folder, no_gpu, tmp_path):
    ingest_array(tmp_path / "r.tif", specimen(3)[:90, :70])  # sides that suit no network
    model = load_model(knowing, CPU)
    others = [replace(model, seen={name: model.seen[name]}) for name in ("1", "2")]
    each = [likeness([other], tmp_path / "r.tif").as_it_is for other in others]
    assert likeness([*others, load_model(folder, CPU)], tmp_path / "r.tif").as_it_is == pytest.approx(np.mean(each))  # fmt: skip
    assert likeness([model], tmp_path / "r.tif").as_it_is == pytest.approx(min(each))
    assert likeness([load_model(folder, CPU)], tmp_path / "r.tif") is None


def test_of_a_large_image_the_look_is_that_of_its_specimen(folder, tmp_path):
    """A frame or a data bar is none of it."""
    model, draw = load_model(folder, CPU), np.random.default_rng(0)
    pixels = draw.integers(0, 255, (600, 600), np.uint8)
    valid = np.zeros(pixels.shape, bool)
    valid[:300, :300] = True
    write_raster(tmp_path / "r.tif", pixels, valid=valid, tags={"LOW": 0, "HIGH": 255})
    with open_raster(tmp_path / "r.tif") as raster:
        mean, variance = look_of(model, raster)
        corner = raster.rgb8(Window(0, 0, 256, 256))
    wanted, square = model.moments(corner[None])[0]
    np.testing.assert_allclose(mean, wanted, atol=1e-5)
    np.testing.assert_allclose(variance, square - wanted**2, atol=1e-5)
    write_raster(
        tmp_path / "n.tif", pixels, valid=np.zeros_like(valid), tags={"LOW": 0, "HIGH": 255}
    )
    with open_raster(tmp_path / "n.tif") as raster:
        assert look_of(model, raster) is None


def test_what_is_no_specimen_stays_black_in_an_inverse(tmp_path):
    pixels = specimen(1)
    ingest_array(tmp_path / "r.tif", pixels)
    valid = np.ones(pixels.shape, bool)
    valid[:, :20] = False
    with open_raster(tmp_path / "r.tif") as raster:
        plain = raster.rgb8()
        write_raster(tmp_path / "cut.tif", np.moveaxis(plain, -1, 0), valid=valid, tags=raster.tags | {"LOW": 0, "HIGH": 255})  # fmt: skip
    with open_raster(tmp_path / "cut.tif") as raster:
        inverse = raster.rgb8(inverse=True)
    assert not inverse[:, :20].any()
    np.testing.assert_array_equal(inverse[:, 20:], 255 - plain[:, 20:])


def test_an_encoder_without_batch_norm_has_no_look_and_predicts(no_gpu, tmp_path):
    torch.manual_seed(0)
    model = Model(build_network("mit_b0").eval(), CARD)
    ingest_array(tmp_path / "r.tif", specimen(1))
    assert looks_of(model, [tmp_path / "r.tif"]) == {}
    save_model(tmp_path / "m", model)
    predict(tmp_path / "r.tif", [tmp_path / "m"], tmp_path / "p.tif", threads=1, **SETTINGS)
    assert probabilities(tmp_path / "p.tif")[1] == "as it is"


# what comes out


def test_all_output_lies_where_the_image_lies(folder, no_gpu, tmp_path):
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 4e5, 0, -0.5, 5e6)}
    ingest_array(tmp_path / "r.tif", WINDOWS[0, ..., 0], **place)
    predict(tmp_path / "r.tif", [folder, folder], tmp_path / "p.tif", threads=1, **SETTINGS)
    with rasterio.open(tmp_path / "p.tif") as found:
        assert (found.crs, found.transform) == (place["crs"], place["transform"])
        assert (found.shape, found.dtypes) == ((96, 64), ("float32",))
        assert np.isnan(found.nodata)
        tags = found.tags()
    assert (tags["THRESHOLD"], tags["GIT_COMMIT"]) == ("0.5", "c0ffee,c0ffee")
    segment(tmp_path / "p.tif", tmp_path / "r.tif", tmp_path / "m.tif", tmp_path / "o.png",
            tmp_path / "g.geojson", threshold=None, min_area_px=0)  # fmt: skip
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert (mask.crs, mask.transform) == (place["crs"], place["transform"])
        assert (mask.shape, mask.nodata, mask.tags()["PIXEL_SIZE_UM"]) == (
            (96, 64),
            255,
            "500000.0",
        )
        left, bottom, right, top = mask.bounds
    outlines = json.loads((tmp_path / "g.geojson").read_text())
    assert outlines["crs"]["properties"]["name"] == "EPSG:32633"
    x, y = np.concatenate([o["geometry"]["coordinates"][0] for o in outlines["features"]]).T
    assert left <= x.min() < x.max() <= right
    assert bottom <= y.min() < y.max() <= top


FILL = """
import resource, sys
import numpy as np
from poreseg.errors import told_in_one_line
from poreseg.images.raster import new_png, new_raster
path, room = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
noise = np.random.default_rng(0).integers(0, 255, (3, 300, 1024), np.uint8)
if "rows" in path:  # what repeats every 30 rows shrinks in a TIFF's blocks and not in a PNG
    noise = np.tile(noise[:, :30], (1, 10, 1))
with told_in_one_line():
    make = new_png(path, (300, 1024)) if path.endswith("png") else new_raster(path, noise.shape, np.uint8)
    with make as file:
        file.write(noise)
"""


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("a.tif", 1_000),
        ("a.tif", 922_000),
        ("a.png", 1_000),
        ("rows.png", 500_000),
        ("rows.png", 850_000),
    ],
)
def test_a_full_disk_is_one_line_and_no_file(tmp_path, name, room):
    """Where only the last blocks find no room, GDAL itself tells no error."""
    done = run(FILL, [str(tmp_path / name), str(room)])
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert f"{name}" in line
    assert "cannot be written" in line
    assert "make room" in line
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.tif", "a.png", "rows.png"])
def test_what_fits_is_written(tmp_path, name):
    done = run(FILL, [str(tmp_path / name), "2000000"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / name) as file:
        assert file.read().mean() == pytest.approx(127, abs=1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_killed_prediction_leaves_no_file_to_believe(folder, tmp_path):
    ingest_array(tmp_path / "r.tif", np.tile(WINDOWS[0, ..., 0], (40, 12)))
    out = tmp_path / "out"
    code = f"""
from poreseg.prediction.predict import predict
predict({str(tmp_path / "r.tif")!r}, [{str(folder)!r}], {str(out / "p.tif")!r}, threads=1, **{SETTINGS})
"""
    job = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {VISIBLE: "-1"})
    while not (out.is_dir() and any(file.stat().st_size > 100_000 for file in out.iterdir())):
        assert job.poll() is None, "it was to be killed in the middle"
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (out / "p.tif").exists()


# GPUs


def test_gpus_are_those_that_cuda_may_see(monkeypatch):
    monkeypatch.setenv(VISIBLE, "2, GPU-5ebe9f43")
    assert gpus() == ["2", "GPU-5ebe9f43"]
    monkeypatch.setenv(VISIBLE, "0,-1,2")  # CUDA stops at the first that is none
    assert gpus() == ["0"]
    for none in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv(VISIBLE, none)
        assert gpus() == []


@pytest.mark.parametrize(("answer", "found"), [
    ("echo GPU-11f1; echo GPU-22f2", ["GPU-11f1", "GPU-22f2"]), ("echo no driver >&2; exit 9", []), (None, []),
])  # fmt: skip
def test_gpus_are_those_of_the_driver(monkeypatch, tmp_path, answer, found):
    monkeypatch.delenv(VISIBLE, raising=False)
    if answer:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    devices._installed.cache_clear()
    assert gpus() == found
    devices._installed.cache_clear()


@pytest.mark.parametrize(("visible", "percent"), [("-1", 0), ("0", 100), ("0,1", 50), ("0,1,2", 33)])  # fmt: skip
def test_each_gpu_has_one_job(monkeypatch, visible, percent):
    monkeypatch.setenv(VISIBLE, visible)
    assert gpu_percent() == percent


def test_an_apple_gpu_has_one_job_too(monkeypatch):
    monkeypatch.setenv(VISIBLE, "")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert gpu_percent() == 100


def test_numbers_of_gpus_are_those_of_a_slurm_job(monkeypatch, tmp_path):
    """Two jobs on one node have a GPU 0 each, and both are another; an identity is one everywhere."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for gpu, free in (("0", True), ("GPU-1", False)):
        monkeypatch.setenv(VISIBLE, gpu)
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        with own_gpu():
            monkeypatch.setenv("SLURM_JOB_ID", "8")
            with own_gpu() as own:
                assert own == free


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU that works")
@pytest.mark.parametrize("torch_sees_it", [True, False])  # a card, or a driver, that is too old
def test_a_gpu_that_cannot_be_used_is_told_and_the_processor_computes(monkeypatch, torch_sees_it):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees_it)
    monkeypatch.setenv(VISIBLE, "0")
    device_of_choice.cache_clear()
    with pytest.warns(PoresegWarning, match="the GPU cannot be used .*; the processor computes"):
        assert device_of_choice() == torch.device("cpu")
    device_of_choice.cache_clear()


def test_processes_keep_their_gpu_to_themselves(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = """
import os, sys
from poreseg.devices import own_gpu
with own_gpu() as own:
    print(own, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""
    jobs = []
    for _ in range(3):
        job = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=os.environ | {VISIBLE: "0,1"})  # fmt: skip
        jobs.append((job, job.stdout.readline().split()))
    shared = "01"[jobs[2][0].pid % 2]
    assert [told for _, told in jobs] == [["True", "0"], ["True", "1"], ["False", shared]]
    for job, _ in jobs:
        job.communicate()
    monkeypatch.setenv(VISIBLE, "0,1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with own_gpu() as own:  # they are free again
        assert own
        assert os.environ[VISIBLE] == "0"


FREED = """
import resource, sys
from poreseg.devices import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    b"." * 2**27  # freed at once
before = faults()
b"." * 2**27
print(int(kept), faults() - before)
"""


def test_memory_that_is_freed_stays_with_the_process():
    def met(how):
        command = [sys.executable, "-c", FREED, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return tuple(map(int, done.stdout.split()))

    _, before = met("given back")  # 32768 small pages, or 64 large ones
    kept, after = met("kept")
    assert not kept or after <= before / 20
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(map(int, version.split("."))) >= (2, 36):
        assert kept
