"""The poreseg command: what it says of good and of bad studies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import formats
import numpy as np
import pytest
import tifffile
import yaml
from conftest import ROOT, SHARED
from PIL import Image

from poreseg.errors import PoresegError
from poreseg.images.registry import open_image
from poreseg.labels.label import Classes, Grid
from poreseg.labels.rasterise import read_label

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real studies are not beside the checkout"
)


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Run where the command may write."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def poreseg(*arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-c", "from poreseg.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "180"}, check=False,
    )  # fmt: skip
    out = done.stdout + done.stderr
    assert done.returncode == status if status is not None else done.returncode != 0, out
    assert "Traceback" not in out
    return out


def test_check_says_how_each_file_is_understood(study):
    out = poreseg("check", study)
    row = {line.split()[0]: line for line in out.splitlines() if line}
    assert "GeoJSON" in row["section-1"]
    assert "LabelMe" in row["photo-2"]
    assert "0 matrix, 255 pore" in row["sem-2"]
    assert "0 matrix, 1 pore, 255 unknown" in row["ct-1"]
    assert "1 x uint16" in row["ct-1"]
    command = f"snakemake --cores all --config study={study} results=results-{study.name}"
    assert f"ready to run: {command}" in out
    shutil.copytree(study, "20250312")  # a number to Snakemake
    assert "--config study=./20250312 results=results-20250312" in poreseg("check", "20250312")
    with Image.open("results/check.png") as sheet:
        assert sheet.width > 1000
        pink = (np.array(sheet) == (255, 0, 160)).all(axis=-1)
    assert pink.sum() > 500  # outlines of pores


def _drop(study, name):
    next((study / "images").glob(f"{name}.*")).unlink()


def _image(study, name, pixels):
    Image.fromarray(pixels).save(study / "images" / name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: (s / "images" / "photo-2.jpg").write_bytes(b"x"), "photo-2.jpg: cannot be read as an image"),
        (lambda s: Image.new("L", (9, 9)).save(s / "labels" / "sem-2.png"), "the label is 9x9 px, its image 160x128; export the label at full size"),
        (lambda s: _drop(s, "photo-2"), "no image photo-2.jpg"),
        (lambda s: _image(s, "sem-2.tif", np.eye(9)), "two images are named sem-2"),
        (lambda s: _image(s, "sem-2.png", np.zeros((128, 160), np.uint8)), "there is nothing to see"),
        (lambda s: _image(s, "sem-2.png", np.pad(np.full((80, 100), 200, np.uint8), 20)), "there is nothing to see"),
        (lambda s: (s / "samples.csv").write_text("image,specimn\n"), "unknown column 'specimn'"),
        (lambda s: (s / "labels" / "photo-2.json").write_text("{}"), "its format is not read; wanted GeoJSON, LabelMe, COCO"),
    ],
)  # fmt: skip
def test_check_names_what_is_wrong(study, spoil, message):
    spoil(study)
    assert message in poreseg("check", study, status=1)


def test_check_warns_of_a_label_without_pores(study):
    Image.new("L", (160, 128)).save(study / "labels" / "sem-2.png")
    assert "warning: " + str(study / "labels" / "sem-2.png") + ": no pore" in poreseg(
        "check", study
    )


def test_check_asks_whether_a_mask_is_inverted(study):
    mask = study / "labels" / "sem-2.png"
    Image.fromarray(255 - np.array(Image.open(mask))).save(mask)
    out = poreseg("check", study)
    assert (
        f"warning: {mask}: " in out
        and " % of it is pore (0 matrix, 255 pore); is it inverted?" in out
    )


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("sheet.json", "sheet.json is no picture"),
        ("file/sheet.png", "file/sheet.png: cannot be written"),
        (f"{'n' * 300}.png", "n.png: cannot be written (File name too long)"),
    ],
)
def test_check_says_where_no_picture_can_be_written(study, sheet, message):
    Path("file").write_text("no folder")
    assert message in poreseg("check", study, "--sheet", sheet, status=1)


def test_an_empty_folder_is_told(tmp_path):
    assert "error: no images in" in poreseg("check", tmp_path, status=1)


def test_demo_draws_a_study_that_checks(tmp_path):
    poreseg("demo", tmp_path / "demo")
    out = poreseg("check", tmp_path / "demo")
    assert "ready to run" in out
    assert out.count(" test ") == 6
    assert "warning" not in out


@pytest.mark.parametrize("name", ["thesis.tex", "samples.csv"])
def test_demo_does_not_write_among_other_files(tmp_path, name):
    folder = tmp_path / "thesis"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "mine.png").write_bytes(b"")
    (folder / name).write_text("mine")
    assert "holds other files" in poreseg("demo", folder, status=1)
    assert (folder / name).read_text() == "mine"
    assert {p.name for p in folder.rglob("*")} == {"images", "mine.png", name}


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--threshold", "50", "--threshold: segment.threshold is 50.0; wanted less than 1"),
    ("--pixel-size-um", "-0.5", "--pixel-size-um is '-0.5'; wanted a number above 0"),
    ("--pixel-size-um", "nan", "--pixel-size-um is 'nan'; wanted a number above 0"),
    ("--data-bar-px", "-5", "Invalid value for '--data-bar-px'"),
])  # fmt: skip
def test_predict_refuses_what_samples_and_params_refuse(study, option, value, message):
    image = study / "images" / "photo-2.jpg"
    out = poreseg("predict", image, "-m", "model", "-o", "out", f"{option}={value}", status=None)
    assert message in out


@pytest.mark.parametrize(("to", "name"), [("mask", "a.png"), ("mask", "a.tif"), ("geojson", "a.geojson"),
                                          ("labelme", "a.json"), ("coco", "a.json")])  # fmt: skip
def test_convert_writes_a_label_that_reads_the_same(study, tmp_path, to, name):
    label, image = (
        study / "labels" / "section-1.geojson",
        next((study / "images").glob("section-1.*")),
    )
    out = poreseg("convert", label, "--image", image, "--to", to, "-o", tmp_path / name)
    assert f"is in {tmp_path / name}" in out
    with Image.open(image) as size:
        grid = Grid(size.height, size.width, image=image.name)
    np.testing.assert_array_equal(read_label([tmp_path / name], grid, Classes()).values,
                                  read_label([label], grid, Classes()).values)  # fmt: skip


def test_convert_writes_nothing_that_would_be_read_otherwise(study, tmp_path):
    """0 and 255 are pores to most; not in this study."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["rasterise"]["value_255"] = "unknown"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    label, image = (
        study / "labels" / "section-1.geojson",
        next((study / "images").glob("section-1.*")),
    )
    out = tmp_path / "a.png"
    arguments = ("convert", label, "--image", image, "--to", "mask", "--params", tmp_path / "params.yaml")  # fmt: skip
    told = poreseg(*arguments, "-o", out, status=1)
    assert f"{out}: not written" in told and "255 unknown, no pore" in told
    assert not out.exists()
    poreseg(*arguments, "-o", tmp_path / "a.tif")


def test_convert_takes_the_plane_of_a_stack(tmp_path):
    formats.tiff(np.arange(3 * 24 * 32, dtype=np.uint16).reshape(3, 24, 32), photometric="minisblack")(tmp_path / "a.tif")  # fmt: skip
    rois = formats.roi_polygons()[:2]
    for number, roi in enumerate(rois):
        roi.position = number + 2
    formats.roi_set(rois)(tmp_path / "a.zip")
    arguments = (
        "convert",
        tmp_path / "a.zip",
        "--image",
        tmp_path / "a.tif",
        "--to",
        "mask",
        "-o",
        tmp_path / "a.png",
    )
    assert "--plane" in poreseg(*arguments, status=1)
    assert "regions are on other planes than 2" in poreseg(*arguments, "--plane", "2")


def test_convert_says_what_is_wrong(study, tmp_path):
    label, image = (
        study / "labels" / "section-1.geojson",
        next((study / "images").glob("section-1.*")),
    )
    for arguments, message in [
        (("--to", "cocoo", "-o", tmp_path / "a.json"), "--to cocoo (did you mean 'coco'?)"),
        (
            ("--to", "coco", "-o", tmp_path / "a.png"),
            f"{tmp_path / 'a.png'}: coco needs a file that ends in .json",
        ),
        (("--to", "geojson", "-o", label), "is an input as well; name another file"),
    ]:
        assert message in poreseg("convert", label, "--image", image, *arguments, status=1)
    two = poreseg("convert", label, study / "labels" / "sem-1.png", "--image", image,
                  "--to", "labelme", "-o", tmp_path / "a.json", status=1)  # fmt: skip
    assert "called section-1_CLASS.ome.tif; name one label" in two


def test_a_model_that_is_none_is_told_before_any_work(study, tmp_path):
    image = next((study / "images").iterdir())
    out = poreseg("predict", image, "-m", tmp_path, "-o", tmp_path / "out", status=1)
    assert "no model folder" in out
    assert not (tmp_path / "out").exists()


@needs_shared
@pytest.mark.parametrize("name", ["mixed17", "thinsection", "fdm-photo", "mudrock-sem"])
def test_real_studies_check_as_they_are(name):
    out = poreseg("check", SHARED / name)
    assert "ready to run" in out


@needs_shared
def test_slices_of_one_core_need_the_split_by_image():
    out = poreseg("check", SHARED / "sandstone-ct", status=1)
    assert "one specimen only (core)" in out
    assert "split.by: image" in out


@needs_shared
def test_real_labels_are_the_same_in_labelme_form():
    folder = SHARED / "fdm-photo"
    classes = Classes()
    for path in sorted((folder / "labels-labelme").glob("*.json")):
        mask = read_label([folder / "labels" / f"{path.stem}.png"], Grid(640, 640), classes).values
        drawn = read_label([path], Grid(640, 640), classes).values
        union = ((mask == 1) | (drawn == 1)).sum()
        assert not union or ((mask == 1) & (drawn == 1)).sum() / union > 0.9, path.name


@needs_shared
def test_real_class_masks_need_no_conversion_but_names(tmp_path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["rasterise"] |= {"pore": [2], "unknown": [22], "other": "matrix"}
    classes = Classes(**params["rasterise"])
    folder = SHARED / "thinsection"
    for path in sorted((folder / "labels-original").glob("*.tif")):
        original = read_label([path], Grid(480, 512), classes).values
        label = read_label(
            [folder / "labels" / f"{path.stem}.png"], Grid(480, 512), Classes()
        ).values
        np.testing.assert_array_equal(original, label)
    core = SHARED / "sandstone-ct"
    colours = Classes(pore=["#0000ff"], other="matrix")
    for path in sorted((core / "labels-original").glob("*.tif"))[:2]:
        original = read_label([path], Grid(1024, 996), colours).values
        label = read_label(
            [core / "labels" / f"{path.stem}.png"], Grid(1024, 996), Classes()
        ).values
        np.testing.assert_array_equal(original[label != 255], label[label != 255])


@needs_shared
def test_apeer_exports_are_read_by_the_values_of_their_classes():
    folder = SHARED / "apeer-format"
    for name in ("7a", "9a"):
        label = folder / "labels-original" / f"{name}.ome.tiff"
        with pytest.raises(PoresegError, match="are neither a mask"):
            read_label([label], Grid(1200, 1600, image=f"{name}.jpg"), Classes())
        lithic = Classes(pore=[2], other="matrix")
        found = read_label([label], Grid(1200, 1600, image=f"{name}.jpg"), lithic).values
        np.testing.assert_array_equal(found == 1, tifffile.imread(label) == 2)


@needs_shared
def test_a_scrambled_label_is_refused():
    folder = SHARED / "thinsection" / "corrupt"
    labels = [p for p in folder.rglob("*") if p.is_file() and "label" in str(p).lower()]
    assert labels
    for path in labels:
        with pytest.raises(PoresegError, match=path.name):
            with open_image(path) as source:
                grid = Grid.of(source)
            read_label([path], grid, Classes())
