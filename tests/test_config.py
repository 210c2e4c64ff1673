"""params.yaml is checked, and it and the functions agree."""

import inspect
import json
import os
import shutil
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from snakemake.cli import parse_config

from poreseg.analysis import baselines, morphometry
from poreseg.analysis import report as report_module
from poreseg.build import begin, finish, prune, summary
from poreseg.config import Params, check_params, read_params
from poreseg.errors import PoresegError
from poreseg.files import write_json
from poreseg.images import ingest, tiles
from poreseg.images.companions import fingerprint
from poreseg.images.raster import write_raster
from poreseg.labels import rasterise
from poreseg.learning import augment, encoder, pretrain, train
from poreseg.learning.loop import Recipe
from poreseg.names import stem
from poreseg.plan import DEMO_STEPS, Plan, record
from poreseg.prediction import predict, segment
from poreseg.split import split_study

FUNCTIONS = {
    "split": split_study, "ingest": ingest.ingest, "rasterise": rasterise.rasterise,
    "tile": tiles.tile, "augment": augment.write_pipeline,
    "baseline": baselines.baseline, "encoder": encoder.prepare_encoder,
    "pretrain": pretrain.pretrain, "train": train.train, "refit": train.train,
    "predict": predict.predict_with, "segment": segment.segment,
    "measure": morphometry.measure, "report": report_module.report,
}  # fmt: skip


def params():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_shipped_params_are_valid():
    read_params(ROOT / "params.yaml")


@pytest.mark.parametrize("verb", Params.model_fields)
def test_each_section_is_the_keywords_of_its_verb(verb):
    section = Params.model_fields[verb].annotation.model_fields
    keywords = set(inspect.signature(FUNCTIONS[verb]).parameters)
    if "recipe" in keywords:
        keywords |= {field.name for field in fields(Recipe)}
    assert set(section) <= keywords


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "step", 3, r"unknown key train.step \(did you mean 'steps'\?\)"),
        ("trian", None, {}, r"unknown key trian \(did you mean 'train'\?\)"),
        ("train", "steps", -1, r"train.steps is -1"),
        ("train", "steps", "many", r"train.steps is 'many'"),
        ("train", "minutes", float("inf"), r"train.minutes is inf"),
        ("train", "learning_rate", float("inf"), r"train.learning_rate is inf"),
        ("train", "seed", -1, r"train.seed is -1"),
        ("baseline", "seed", 2**32, r"baseline.seed is 4294967296"),
        (1, None, {}, r"unknown key 1"),
        ("predict", "window", 500, "predict.window is 500.*multiple of 32"),
        (
            "augment",
            "scale",
            [2, 1],
            r"augment: scale is \[2\.0, 1\.0\]; wanted \[smallest, largest\]$",
        ),
    ],
)
def test_a_wrong_param_is_named_with_the_nearest_known_one(section, key, value, message):
    content = params()
    if key is None:
        content[section] = value
    else:
        content[section][key] = value
    with pytest.raises(PoresegError, match=message) as error:
        check_params(content)
    assert "\n" not in str(error.value)


def test_numbers_may_come_as_text_as_the_command_line_gives_them():
    content = params()
    content["measure"]["connectivity"] = "1"
    content["segment"]["threshold"] = "0.3"
    read = check_params(content)
    assert (read.measure.connectivity, read.segment.threshold) == (1, 0.3)
    content["measure"]["connectivity"] = 3
    with pytest.raises(PoresegError, match=r"measure\.connectivity is 3"):
        check_params(content)


def test_a_file_of_weights_that_is_not_there_is_told(tmp_path):
    content = params()
    content["encoder"]["file"] = "nowhere.pth"
    with pytest.raises(PoresegError, match=r"no file nowhere\.pth"):
        Plan(content | {"results": str(tmp_path)})


@pytest.mark.parametrize("key", ["study", "results"])
def test_a_folder_whose_name_is_read_as_a_number_is_told(tmp_path, key):
    given = parse_config([f"{key}=2025_03_12"])  # as the command line gives it
    with pytest.raises(
        PoresegError, match=rf"{key}: .* as 20250312, not as text; write {key}=\./NAME"
    ):
        Plan(params() | {"results": str(tmp_path)} | given)
    assert parse_config([f"{key}=./2025_03_12"]) == {key: "./2025_03_12"}


def test_a_build_of_a_part_removes_nothing_and_a_whole_one_what_is_left_over(tmp_path, tiny_study):
    plan = Plan(params() | {"study": str(tiny_study), "results": str(tmp_path)})
    left_over = [tmp_path / "model" / "fold-7", tmp_path / ".checkpoints" / "0a"]
    for folder in left_over:
        folder.mkdir(parents=True)
    last = tmp_path / "tracked.json"
    last.write_text("{}")
    os.utime(last, (plan.began - 9, plan.began - 9))  # of the build before
    finish(plan)
    assert all(folder.exists() for folder in left_over)
    os.utime(last, (plan.began + 1, plan.began + 1))
    with pytest.raises(PoresegError, match="not there yet"):  # scores to tell of
        finish(plan)
    assert not any(folder.exists() for folder in left_over)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("raw/mine.png", "data/raw/mine.png is there, but no image in data/raw/images"),
        ("raw/labels/mine.json", "no image in data/raw/images: put images into images/"),
        ("raw/labels", "data/raw/labels is there, but no image"),
        ("raw/images.dvc", "run dvc pull"),
        ("raw.dvc", "run dvc pull"),
    ],
)
def test_the_demo_study_does_not_stand_in_for_one_that_is_begun(tmp_path, monkeypatch, there, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw/images").mkdir(parents=True)
    (tmp_path / "data/raw/.gitkeep").touch()
    assert Plan(params()).is_demo
    path = tmp_path / "data" / there
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.touch()
    else:
        path.symlink_to(tmp_path / "not-mounted")
    with pytest.raises(PoresegError, match=told):
        Plan(params())
    assert Plan(params() | {"study": "data/demo"}).is_demo


def test_the_demo_study_does_not_take_the_place_of_ones_own_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = Plan(params())
    begin(demo)
    assert Plan(params()).is_demo  # built again
    record(Path("results"), Path("my/study"), {"mine": "test"})
    for chosen in ({}, {"study": "data/demo"}):
        with pytest.raises(
            PoresegError,
            match=r"results holds results of another study \(mine, for one\), not of data/demo: name",
        ):
            Plan(params() | chosen)
    assert Plan(params() | {"results": "elsewhere"}).is_demo


def test_a_study_does_not_take_the_place_of_anothers_results(tmp_path, study):
    content = params() | {"study": str(study), "results": str(tmp_path / "results")}
    first = Plan(content)
    begin(first)
    name = first.study.names[0]
    results, image = Path(first.results), first.study.samples[0].image
    record(results, study, {"mine": "test", name: "train"})
    assert Plan(content).study.names == first.study.names  # images come and go
    record(results, study, {"mine": "test"})
    with pytest.raises(
        PoresegError, match=r"results of another study \(mine, for one\), not of .*study: name"
    ):
        Plan(content)
    assert Plan(content | {"results": str(tmp_path / "others")})

    record(results, tmp_path / "other", {"mine": "test", name: "train"})  # that shares a name
    raster = results / "rasters" / f"{name}.tif"
    for made_of, belongs in ((None, False), ("another image", False), (fingerprint([image]), True)):
        if made_of:
            write_raster(raster, np.zeros((4, 4), np.uint8), tags={"SOURCE_SHA256": made_of})
        if belongs:  # the study was moved
            assert Plan(content).study.names == first.study.names
        else:
            with pytest.raises(PoresegError, match="results of another study"):
                Plan(content)


def test_results_of_a_build_that_did_not_end_are_removed_with_their_images(tmp_path, study):
    results = tmp_path / "results"
    content = params() | {"study": str(study), "results": str(results)}
    first = Plan(content)
    begin(first)
    gone, *kept = first.study.names
    for name in first.study.names:
        raster = results / "rasters" / f"{name}.tif"
        log = results / "logs" / "predict" / f"{name}.log"
        for path in (raster, log):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for path in study.rglob(f"{gone}.*"):
        path.unlink()
    (study / "samples.csv").unlink()
    second = Plan(content)
    begin(second)
    assert prune(second) == [gone]
    for folder in ("rasters", "logs/predict"):
        assert sorted(path.stem for path in (results / folder).iterdir()) == sorted(kept)


def test_results_of_a_label_that_is_gone_are_removed_and_its_image_stays(tmp_path, study):
    results = tmp_path / "results"
    content = params() | {"study": str(study), "results": str(results)}
    first = Plan(content)
    begin(first)
    assert prune(first) == []
    name = first.study.labelled[0]
    folders = {"rasters": ".tif", "labels": ".tif", "tiles": ".csv", "errors": ".png"}
    left = [results / folder / f"{name}{suffix}" for folder, suffix in folders.items()]
    for path in left:
        path.parent.mkdir()
        path.touch()
    for path in first.study[name].labels:
        path.unlink()
    (study / "samples.csv").unlink()
    second = Plan(content)
    begin(second)
    assert prune(second) == []
    assert [path.is_file() for path in left] == [True, False, False, False]


def test_other_test_images_than_in_the_build_before_are_told(tmp_path, study, capsys):
    content = params() | {"study": str(study), "results": str(tmp_path / "results")}
    samples = pd.read_csv(study / "samples.csv", dtype=str, keep_default_na=False)
    before = Plan(content)
    begin(before)
    prune(before)
    begin(Plan(content))
    assert capsys.readouterr().out == ""
    test, train = (next(s.name for s in before.study.samples if s.role == role) for role in ("test", "train"))  # fmt: skip
    swapped = {test: "train", train: "test"}
    split = [swapped.get(Path(image).stem, old) for image, old in zip(samples["image"], samples["split"], strict=True)]  # fmt: skip
    samples.assign(split=split).to_csv(study / "samples.csv", index=False)
    for _ in range(2):  # the first is killed
        begin(Plan(content))
        told = capsys.readouterr().out
        assert "the test images differ from those of the last whole build" in told
        assert f"with {train} and without {test}:" in told
    for path in study.rglob(f"{test}.*"):
        path.unlink()
    left = samples["image"].map(stem) != test
    samples[left].to_csv(study / "samples.csv", index=False)
    begin(Plan(content))
    assert f"without {test}:" in capsys.readouterr().out


def test_a_training_does_not_start_from_what_its_build_writes(tmp_path):
    model = tmp_path / "model" / "all"
    model.mkdir(parents=True)
    (model / "model.safetensors").touch()
    content = params()
    content["train"]["start"] = str(model)
    with pytest.raises(PoresegError, match="is what this build writes"):
        Plan(content | {"results": str(tmp_path)})


@pytest.mark.parametrize("known", ["images", "validation_images", "start_images"])
def test_a_start_that_knows_the_test_images_is_reported(tmp_path, study, known):
    """Its scores would be too high: the model learned from them, or from others of their specimens."""
    samples = pd.read_csv(study / "samples.csv", dtype=str)
    test, train = (stem(samples["image"][samples["split"] == role].iloc[0]) for role in ("test", "train"))  # fmt: skip
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.safetensors").touch()
    content = params() | {"study": str(study), "results": str(tmp_path / "results")}
    content["train"]["start"] = str(tmp_path / "old")

    def told(name):
        card = {"images": [], "validation_images": [], "start_images": []} | {known: [name]}
        write_json(tmp_path / "old" / "poreseg.json", card)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            Plan(content)
        return " ".join(str(warning.message) for warning in found)

    assert f"has learned from specimens of {test} (test)" in told(test)
    assert "has learned" not in told(train)
    row = samples[samples["image"].map(stem) == test]
    image = study / "images" / row["image"].iloc[0]
    shutil.copy(image, image.with_stem("beside"))
    beside = row.assign(image=f"beside{image.suffix}", label=None, split=None)  # of one specimen
    pd.concat([samples, beside]).to_csv(study / "samples.csv", index=False)
    assert f"{test} (test)" in told("beside")


def test_the_demo_study_takes_fewer_steps_and_other_studies_those_of_the_params(
    tiny_study, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = params()
    demo = Plan(content | {"study": str(tmp_path / "data" / "demo")})
    assert demo.study.folder == Path("data/demo")
    for verb, most in DEMO_STEPS.items():
        assert demo.settings(verb)["steps"] == most < content[verb]["steps"]
        assert getattr(demo.params, verb).steps == most  # what MLflow is told
    assert demo.settings("train")["validate_every"] == DEMO_STEPS["train"]  # at its end
    theirs = Plan(content | {"study": str(tiny_study)})
    assert theirs.settings("train") == {
        key: content["train"][key] for key in content["train"].keys() - {"start", "workers"}
    }
    content["split"]["folds"] = 2  # and no refit: its steps are the training's
    folded = Plan(content | {"study": "data/demo"}).settings("train")
    assert folded["validate_every"] == folded["steps"] == sum(DEMO_STEPS.values())
    content = params()
    content["train"]["steps"] = 3
    assert Plan(content | {"study": "data/demo"}).settings("train")["steps"] == 3


def test_what_is_not_refitted_learns_for_as_long(tiny_study, tmp_path):
    def most(**changes):
        content = params()
        for section, values in changes.items():
            content[section] |= values
        plan = Plan(content | {"study": str(tiny_study), "results": str(tmp_path)})
        return plan.settings("train")["steps"], plan.settings("train")["minutes"], plan.refits

    train, refit = (params()[verb]["steps"] for verb in ("train", "refit"))
    minutes = params()["train"]["minutes"]  # the refit has as many
    assert most() == (train, minutes, True)
    assert most(split={"folds": 2}) == (train + refit, 2 * minutes, False)
    assert most(split={"folds": 2}, refit={"steps": 0}) == (train, minutes, False)


def test_the_summary_has_a_line_for_each_role_that_has_images(tmp_path):
    def score(images, specimens, iou, interval, without_iou=0):
        return {"images": images, "specimens": specimens, "iou_mean": iou, "iou_ci95": interval,
                "images_without_iou": without_iou}  # fmt: skip

    scores = {"train": score(4, 1, 0.8, None), "validation": score(13, 13, 0.714, [0.66, 0.75], 2),
              "test": score(0, 0, None, None), "baselines": {},
              "encoder": "mobilenet_v2", "encoder_wanted": "mobilenet_v2"}  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(scores))
    told = summary(tmp_path)
    assert "in place of" not in told
    lines = [line.split(maxsplit=2) for line in told.splitlines() if "IoU" in line]
    assert [(iou, role) for _, iou, role in lines] == [
        ("0.80", "train, mean of 4 images of 1 specimen"),
        ("0.71", "validation, mean of 11 images (95 % interval 0.66 to 0.75)"),
        ("none", "test, mean of 0 images"),  # which a user ought to know
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(scores | {"encoder_wanted": "resnet34"}))
    assert "  mobilenet_v2 in place of resnet34; once" in summary(tmp_path)


def test_a_missing_key_is_named():
    content = params()
    del content["tile"]["size"]
    with pytest.raises(PoresegError, match=r"tile.size is missing"):
        check_params(content)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00"])
def test_a_params_file_that_is_none_is_told(tmp_path: Path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PoresegError, match=r"params.yaml"):
        read_params(tmp_path / "params.yaml")
