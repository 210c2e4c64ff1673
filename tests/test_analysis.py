"""Masks, shapes, baselines and pictures against specimens with known pores."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from conftest import ingest_array
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pytest import MonkeyPatch
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from poreseg.analysis import displaced as displacement
from poreseg.analysis.baselines import (
    OTSU_WAYS,
    SAUVOLA_WAYS,
    learned,
    otsu_pores,
    thresholded,
)
from poreseg.analysis.displaced import BETTER, FITS, LEAST, REACH, Displaced, displaced
from poreseg.analysis.errors import CAPTION_PX, FALSE, MISSED, TILE_PX, differences, errors
from poreseg.analysis.forest import features
from poreseg.analysis.morphometry import (
    describe,
    measure,
    measure_all,
    measure_specimens,
    size_classes,
)
from poreseg.analysis.objects import weighted_median
from poreseg.analysis.report import _size_curve, _svg
from poreseg.errors import PoresegError, PoresegWarning
from poreseg.images.raster import open_raster, write_raster
from poreseg.images.windows import Window
from poreseg.prediction.segment import BLUE, find_pores, paint, segment
from poreseg.tables import read_table


def rasters(tmp_path, probability, **place):
    gray = (probability * 200).astype(np.uint8)
    ingest_array(tmp_path / "r.tif", gray, **place)
    write_raster(tmp_path / "p.tif", probability.astype(np.float32), nodata=np.nan,
                 tags={"THRESHOLD": 0.5, "GIT_COMMIT": "abc"}, **place)  # fmt: skip


def segmented(tmp_path, **settings):
    segment(tmp_path / "p.tif", tmp_path / "r.tif", tmp_path / "m.tif", tmp_path / "o.png",
            tmp_path / "g.geojson", **{"threshold": None, "min_area_px": 4} | settings)  # fmt: skip
    with open_raster(tmp_path / "m.tif") as mask:
        return mask.band(), mask


PROBABILITY = np.full((30, 40), 0.1)
PROBABILITY[5:15, 5:15] = 0.9
PROBABILITY[20:28, 20:35] = 0.6
PROBABILITY[0, 39] = 0.9  # a speck


def test_pores_are_probable_and_no_specks(tmp_path):
    rasters(tmp_path, PROBABILITY)
    mask, _ = segmented(tmp_path)
    assert mask.sum() == 100 + 120
    assert segmented(tmp_path, threshold=0.7)[0].sum() == 100
    assert segmented(tmp_path, min_area_px=0)[0].sum() == 221
    assert segmented(tmp_path, min_area_px=121)[0].sum() == 0


def test_no_specimen_is_no_matrix(tmp_path):
    holed = PROBABILITY.copy()
    holed[:, :8] = np.nan
    rasters(tmp_path, np.nan_to_num(holed))
    write_raster(
        tmp_path / "p.tif", holed.astype(np.float32), nodata=np.nan, tags={"THRESHOLD": 0.5}
    )
    mask, _ = segmented(tmp_path)
    assert (mask[:, :8] == 255).all()
    assert mask[6, 9] == 1


def test_lineage_and_pixel_size_go_with_the_mask(tmp_path):
    rasters(tmp_path, PROBABILITY)
    assert segmented(tmp_path)[1].pixel_size_um is None
    _, mask = segmented(tmp_path, pixel_size_um=2.0)
    assert (mask.tags["GIT_COMMIT"], mask.pixel_size_um) == ("abc", 2.0)


def test_samples_csv_overrides_what_the_file_says_and_a_conflict_is_told(tmp_path):
    rasters(tmp_path, PROBABILITY, crs="EPSG:32633", transform=Affine(0.5, 0, 4e5, 0, -0.5, 5e6))
    _, mask = segmented(tmp_path)
    assert (mask.pixel_size_um, mask.tags["PIXEL_SIZE_FROM"]) == (5e5, "georeference")
    with pytest.warns(
        PoresegWarning,
        match=r"r: pixel size 2 um in samples\.csv or --pixel-size-um, 500000 um in georeference; "
        r"samples\.csv or --pixel-size-um counts",
    ):
        _, mask = segmented(tmp_path, pixel_size_um=2.0)
    assert (mask.pixel_size_um, mask.tags["PIXEL_SIZE_FROM"]) == (
        2.0,
        "samples.csv or --pixel-size-um",
    )


def test_the_overlay_is_blue_where_the_pores_are(tmp_path):
    rasters(tmp_path, PROBABILITY)
    segmented(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    assert pixels.shape == (30, 40, 3)
    assert pixels[10, 10, 2] > pixels[10, 10, 0] + 50
    assert len(set(pixels[2, 2])) == 1


@pytest.mark.parametrize("transform", [Affine.identity(), Affine(0.5, 0, 3e5, 0, -0.5, 5e6)])
def test_polygons_give_back_the_mask(tmp_path, transform):
    place = {} if transform.is_identity else {"crs": "EPSG:32633", "transform": transform}
    rasters(tmp_path, PROBABILITY, **place)
    mask, _ = segmented(tmp_path)
    found = json.loads((tmp_path / "g.geojson").read_text())
    assert len(found["features"]) == 2
    assert ("crs" in found) == bool(place)
    again = rasterize([f["geometry"] for f in found["features"]], mask.shape, transform=transform)
    np.testing.assert_array_equal(again, mask)


@given(seed=st.integers(0, 99), share=st.floats(0, 1), min_area=st.integers(0, 40),
       connectivity=st.integers(1, 2))  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_an_image_in_strips_gives_what_it_gives_whole(seed, share, min_area, connectivity):
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(600, 30)), random.uniform(0.5, 6))
    probability = np.where(smooth > np.quantile(smooth, share), 0.9, 0.1)
    probability[random.random(probability.shape) < 0.02] = np.nan
    found = {}
    for strip_px in (1, 10**9):
        with TemporaryDirectory() as scratch, MonkeyPatch.context() as patch:
            patch.setattr("poreseg.images.raster.STRIP_PX", strip_px)
            folder = Path(scratch)
            rasters(folder, np.nan_to_num(probability))
            write_raster(folder / "p.tif", probability.astype(np.float32), nodata=np.nan, tags={"THRESHOLD": 0.5})  # fmt: skip
            mask, _ = segmented(folder, min_area_px=min_area)
            measure(folder / "m.tif", folder / "t.csv", connectivity=connectivity)
            measure_all(["m"], [folder / "m.tif"], [folder / "t.csv"], folder / "all.csv", folder / "sizes.csv")  # fmt: skip
            pores = pd.read_csv(folder / "t.csv").drop(columns="pore")
            outlines = json.loads((folder / "g.geojson").read_text())["features"]
            inside = rasterize([o["geometry"] for o in outlines], mask.shape) if outlines else mask == 1  # fmt: skip
            np.testing.assert_array_equal(inside, mask == 1)
            pictures = mask, np.asarray(Image.open(folder / "o.png"))
            table = pores.sort_values(["row_px", "col_px", "area_px2"]).to_numpy(float)
            files = sorted(path.name for path in folder.iterdir())
            found[strip_px] = pictures, table, len(outlines), files
    (apart, table, count, files), (whole, *rest) = found.values()
    np.testing.assert_array_equal(np.array(apart[0]), np.array(whole[0]))
    np.testing.assert_array_equal(apart[1], whole[1])
    np.testing.assert_allclose(table, rest[0], rtol=1e-5, atol=1e-5)
    assert [count, files] == rest[1:]
    assert not [name for name in files if name.startswith(".") or name.endswith(".xml")]


def test_small_specks_go_and_corners_join():
    diagonal = np.eye(4, dtype=np.float32)
    assert find_pores(diagonal, 0.5, 4).sum() == 4
    assert find_pores(diagonal, 0.5, 5).sum() == 0


# morphometry


def test_a_disc_has_its_diameter_and_perimeter():
    rows, cols = np.mgrid[:200, :240]
    table = describe((np.hypot(rows - 90, cols - 130) < 60).astype(np.uint8), 2)
    assert len(table) == 1
    disc = table.iloc[0]
    assert disc["equivalent_diameter_px"] == pytest.approx(120, rel=0.005)
    assert disc["circularity"] == pytest.approx(1, abs=0.01)
    assert disc["perimeter_px"] == pytest.approx(np.pi * 120, rel=0.02)
    assert (disc["row_px"], disc["col_px"]) == (90, 130)
    assert not disc["touches_border"]


def test_pores_cut_by_a_border_are_marked():
    mask = np.zeros((20, 20), np.uint8)
    mask[0:3, 5:8] = 1  # the image's border
    mask[10:13, 10:13] = 1
    mask[15:18, 2:5] = 1
    mask[15:18, 5] = 255  # the specimen's border
    table = describe(mask, 2).set_index("row_px")
    assert table["touches_border"].to_dict() == {1.0: True, 11.0: False, 16.0: True}


def test_connectivity_joins_corners_or_not():
    mask = np.eye(4, dtype=np.uint8)
    assert (len(describe(mask, 2)), len(describe(mask, 1))) == (1, 4)


def test_lengths_are_in_micrometres_where_the_pixel_size_is_known(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    mask[:, 0] = 255
    for size in (None, 2.5):
        write_raster(tmp_path / "a.tif", mask, tags={"PIXEL_SIZE_UM": size} if size else {})
        measure(tmp_path / "a.tif", tmp_path / "a.csv", connectivity=2)
        pores = pd.read_csv(tmp_path / "a.csv")
        assert pores["area_px2"].item() == 100
        assert ("area_um2" in pores) == bool(size)
    assert pores["area_um2"].item() == 625
    measure_all(
        ["a"], [tmp_path / "a.tif"], [tmp_path / "a.csv"], tmp_path / "p.csv", tmp_path / "s.csv"
    )
    row = pd.read_csv(tmp_path / "p.csv").iloc[0]
    assert row["porosity"] == pytest.approx(100 / 380)
    assert row["median_diameter_um"] == pytest.approx(2.5 * np.sqrt(400 / np.pi), rel=1e-4)
    classes = pd.read_csv(tmp_path / "s.csv")
    assert classes["to_um"].tolist() == [5, 10, 20, 40]
    assert classes["pores"].tolist() == [0, 0, 0, 1]


def test_a_row_of_an_image_says_what_decides_whether_it_can_be_believed(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:11] = mask[0:4, 0:10] = 1  # 60 px within, 40 px cut
    tags = {"THRESHOLD": 0.4, "STRANGE": "true", "POLARITY": "as it is"}
    write_raster(tmp_path / "a.tif", mask, tags=tags)
    measure(tmp_path / "a.tif", tmp_path / "a.csv", connectivity=2)
    measure_all(
        ["a"], [tmp_path / "a.tif"], [tmp_path / "a.csv"], tmp_path / "p.csv", tmp_path / "s.csv"
    )
    row = pd.read_csv(tmp_path / "p.csv").iloc[0]
    assert (row["threshold"], row["strange"], row["inverted"]) == (0.4, True, False)
    assert row["cut_area_fraction"] == pytest.approx(0.4)


def test_porosity_of_a_specimen_is_that_of_all_its_images_together(tmp_path):
    shown = {"a": (10, 4, 2.0), "b": (20, 30, 2.0), "c": (10, 0, None), "d": (10, 5, 1.0), "0010": (10, 20, 3.0)}  # fmt: skip
    for name, (side, pores, size) in shown.items():
        mask = np.zeros((side, side), np.uint8)
        mask.flat[:pores] = 1
        write_raster(tmp_path / f"{name}.tif", mask, tags={"PIXEL_SIZE_UM": size} if size else {})
        measure(tmp_path / f"{name}.tif", tmp_path / f"{name}.csv", connectivity=2)
    masks, tables = ([tmp_path / f"{name}{suffix}" for name in shown] for suffix in (".tif", ".csv"))  # fmt: skip
    samples = [("core", "train"), ("core", "test"), ("core 2", None), ("core 2", "test"), ("0010", None)]  # fmt: skip
    measure_all([*shown], masks, tables, tmp_path / "porosity.csv", tmp_path / "sizes.csv", samples=samples)  # fmt: skip
    measure_specimens(tmp_path / "porosity.csv", tmp_path / "specimens.csv")
    images = read_table(tmp_path / "porosity.csv")
    assert images["role"].fillna("").tolist() == ["train", "test", "", "test", ""]
    found = read_table(tmp_path / "specimens.csv").set_index("specimen")
    assert found["images"].to_dict() == {"core": 2, "core 2": 2, "0010": 1}
    assert found["pores"].to_dict() == {"core": 2, "core 2": 1, "0010": 1}
    assert found["porosity"].to_dict() == pytest.approx({"core": 34 / 500, "core 2": 5 / 200, "0010": 0.2})  # fmt: skip
    assert found["porosity_sd"]["core"] == pytest.approx(np.std([0.04, 0.075], ddof=1), rel=1e-5)
    assert pd.isna(found["porosity_sd"]["0010"])


def test_areas_of_a_specimen_are_compared_in_micrometres(tmp_path):
    """One image of 100 um2 that is half pore, and one of 400 um2 without, of as many pixels."""
    pd.DataFrame({
        "image": ["a", "b"], "specimen": "s", "porosity": [0.5, 0.0], "pores": [1, 0], "strange": [True, False],
        "pore_area_px2": [50, 0], "specimen_area_px2": [100, 100], "pixel_size_um": [1.0, 2.0],
    }).to_csv(tmp_path / "porosity.csv", index=False)  # fmt: skip
    measure_specimens(tmp_path / "porosity.csv", tmp_path / "specimens.csv")
    (row,) = read_table(tmp_path / "specimens.csv").to_dict("records")
    assert row["porosity"] == pytest.approx(50 / 500)
    assert row["strange_images"] == 1


def test_an_image_without_pores_has_porosity_0_and_no_diameter(tmp_path):
    write_raster(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    measure(tmp_path / "a.tif", tmp_path / "a.csv", connectivity=2)
    measure_all(
        ["a"], [tmp_path / "a.tif"], [tmp_path / "a.csv"], tmp_path / "p.csv", tmp_path / "s.csv"
    )
    row = pd.read_csv(tmp_path / "p.csv").iloc[0]
    assert (row["porosity"], row["pores"]) == (0, 0)
    assert pd.isna(row["median_diameter_px"])


def test_size_classes_hold_every_pore_once():
    pores = pd.DataFrame(
        {"equivalent_diameter_px": [1.2, 2.0, 3.9, 8.0], "area_px2": [1, 3, 12, 50]}
    )
    found = size_classes(pores)
    assert found["pores"].tolist() == [1, 2, 0, 1]
    assert found["area_fraction"].sum() == pytest.approx(1)
    tops = [size_classes(pores[:n])["to_px"].max() for n in (1, 2, 3)]
    assert tops == [2, 4, 4]  # none of them empty


@pytest.mark.parametrize(("known", "unit"), [([5.0, 10.0], "µm"), ([5.0, None], "px")])
def test_sizes_are_drawn_in_micrometres_where_all_images_have_them(tmp_path, known, unit):
    sizes = {"image": ["a", "b"], "to_px": [2, 4], "to_um": known, "area_fraction": 1.0}
    pd.DataFrame(sizes).to_csv(tmp_path / "sizes.csv", index=False)
    drawn = []
    svg = _svg(lambda axes, path: drawn.append(axes) or _size_curve(axes, path), tmp_path / "sizes.csv")  # fmt: skip
    assert f"equivalent diameter, {unit}" in svg
    expected = known if unit == "µm" else [2, 4]
    assert [line.get_xdata().tolist() for line in drawn[0].lines] == [[x] for x in expected]


def test_sizes_of_no_pore_are_in_no_unit_that_nobody_knows(tmp_path):
    columns = ["image", "to_px", "to_um", "area_fraction"]
    pd.DataFrame(columns=columns).to_csv(tmp_path / "sizes.csv", index=False)
    assert "equivalent diameter, px" in _svg(_size_curve, tmp_path / "sizes.csv")


def test_half_of_the_area_is_in_larger_pores():
    assert weighted_median(pd.Series([1.0, 2.0, 9.0]), pd.Series([1, 1, 1])) == 2
    assert weighted_median(pd.Series([1.0, 2.0, 9.0]), pd.Series([1, 1, 5])) == 9
    assert weighted_median(pd.Series([], dtype=float), pd.Series([], dtype=float)) is None


# baselines and pictures


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("ways", [OTSU_WAYS, SAUVOLA_WAYS], ids=["otsu", "sauvola"])
def test_thresholds_find_the_polarity_on_training_images(tmp_path, dark, ways):
    label = np.zeros((120, 120), np.uint8)
    label[10:20, 10:30] = label[70:80, 40:55] = 1
    draw(tmp_path, "a", np.where((label == 1) == dark, 40, 180), label)
    found = thresholded([tmp_path / "a.tif"] * 2, [tmp_path / "label-a.tif"] * 2, [True, False], ways)  # fmt: skip
    assert [counts.iou for counts in found] == [1, 1]


def draw(folder, name, gray, label):
    ingest_array(folder / f"{name}.tif", np.asarray(gray, np.uint8))
    write_raster(folder / f"label-{name}.tif", np.asarray(label, np.uint8))


def test_a_local_threshold_sees_through_shading(tmp_path):
    label = np.zeros((200, 200), np.uint8)
    label[20:30, 20:180:20] = label[150:160, 20:180:20] = 1
    shaded = np.linspace(60, 220, 200)[:, None] * np.where(label == 1, 0.6, 1.0)
    draw(tmp_path, "a", shaded, label)
    files = [tmp_path / "a.tif"], [tmp_path / "label-a.tif"], [True]
    (by_otsu,), (by_sauvola,) = (thresholded(*files, ways) for ways in (OTSU_WAYS, SAUVOLA_WAYS))
    assert by_otsu.iou < 0.3
    assert by_sauvola.iou > 0.9


def test_a_forest_learns_texture_but_nothing_from_the_image_it_is_scored_on(tmp_path):
    """Two materials whose looks are swapped: who has seen one is wrong on the other."""
    random = np.random.default_rng(0)
    label = np.zeros((160, 160), np.uint8)
    label[30:70, 20:80] = label[90:140, 90:150] = 1
    smooth, rough = np.full(label.shape, 120), random.choice([60, 180], label.shape)
    for name, pore, matrix in [("a", rough, smooth), ("b", smooth, rough)]:
        draw(tmp_path, name, np.where(label == 1, pore, matrix), label)
    files = [tmp_path / f"{n}.tif" for n in "ab"], [tmp_path / f"label-{n}.tif" for n in "ab"]
    how = {"threads": 1, "pixels": 1000, "trees": 10, "seed": 0}
    seen = learned(*files, [["a", "train", None], ["b", "test", None]], **how)
    assert seen[0].iou > 0.8 > 0.3 > seen[1].iou
    apart = learned(*files, [["a", "validation", 0], ["b", "validation", 1]], **how)
    assert max(counts.iou for counts in apart) < 0.3


def test_a_forest_that_never_saw_a_pore_finds_none(tmp_path):
    draw(tmp_path, "a", np.arange(10_000).reshape(100, 100) % 251, np.zeros((100, 100)))
    (found,) = learned([tmp_path / "a.tif"], [tmp_path / "label-a.tif"], [["a", "train", None]],
                       threads=1, pixels=100, trees=2, seed=0)  # fmt: skip
    assert (found.true_pore, found.false_pore, found.true_matrix) == (0, 0, 10_000)


def test_a_forest_without_a_known_pixel_is_an_error(tmp_path):
    draw(tmp_path, "a", np.arange(10_000).reshape(100, 100) % 251, np.full((100, 100), 255))
    with pytest.raises(PoresegError, match="all labels of training images are unknown"):
        learned([tmp_path / "a.tif"], [tmp_path / "label-a.tif"], [["a", "train", None]],
                threads=1, pixels=100, trees=2, seed=0)  # fmt: skip


@pytest.mark.parametrize("bands", [1, 3])
def test_features_of_a_window_are_those_of_the_whole(tmp_path, bands):
    pixels = np.random.default_rng(0).integers(0, 255, (bands, 300, 260), np.uint8)
    ingest_array(tmp_path / "r.tif", pixels)
    window = Window(110, 90, 60, 70)
    with open_raster(tmp_path / "r.tif") as raster:
        whole, part = features(raster, raster.frame), features(raster, window)
    assert part.shape == (60, 70, 3 * 20)
    np.testing.assert_allclose(part, whole[window.slices], atol=1e-4)


def test_otsu_of_an_empty_frame_finds_nothing():
    gray = np.full((4, 4), 7, np.uint8)
    assert not otsu_pores(gray, np.zeros((4, 4), bool), dark=True).any()


def test_the_worst_tiles_of_unlearned_images_come_first(tmp_path):
    label = np.zeros((64, 128), np.uint8)
    label[:, :10], label[:, 70:110] = 1, 1
    image = np.full((64, 128), 90, np.uint8)
    image[0, 126:] = 0, 255
    for name in ("trained", "tested"):
        ingest_array(tmp_path / f"{name}.tif", image)
        write_raster(tmp_path / f"{name}-mask.tif", np.zeros_like(label))  # all pores are missed
        write_raster(tmp_path / f"{name}-label.tif", label)
    files = [[tmp_path / f"{name}{kind}" for name in ("trained", "tested")]
             for kind in (".tif", "-mask.tif", "-label.tif", ".png")]  # fmt: skip
    split = [["trained", "train", None], ["tested", "test", None]]
    errors(*files, tmp_path / "worst.png", split=split, size=64)
    drawn = np.asarray(Image.open(tmp_path / "tested.png"))
    assert drawn.shape == (64, 128, 3)
    assert np.abs(drawn[0, 0].astype(int) - MISSED).max() < 40
    sheet = np.asarray(Image.open(tmp_path / "worst.png")).astype(int)
    missed = np.abs(sheet - drawn[0, 0]).max(axis=-1) < 3
    left, right = np.hsplit(missed, 2)
    assert (left.sum(), right.sum()) == (64 * 40, 64 * 10)  # test only, the worse tile first


def test_large_tiles_are_shown_with_fewer_pixels(tmp_path):
    side = 3 * TILE_PX
    label = np.zeros((side, side), np.uint8)
    label[:9] = 1
    ingest_array(tmp_path / "a.tif", np.arange(side * side, dtype=np.uint8).reshape(side, side))
    write_raster(tmp_path / "mask.tif", np.zeros_like(label))
    write_raster(tmp_path / "label.tif", label)
    files = ([tmp_path / name] for name in ("a.tif", "mask.tif", "label.tif", "a.png"))
    errors(*files, tmp_path / "worst.png", split=[["a", "test", None]], size=side)
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.height == TILE_PX + CAPTION_PX


def test_differences_have_a_colour_each():
    image = np.full((1, 4, 3), 100, np.uint8)
    label = np.array([[1, 0, 1, 255]], np.uint8)
    pore = np.array([[True, True, False, True]])
    found, false, missed, unknown = differences(image, pore, label)[0].astype(int)
    assert found.tolist() == paint(image, pore & (label == 1), BLUE)[0, 0].tolist()
    assert np.abs(false - FALSE).max() < 40
    assert np.abs(missed - MISSED).max() < 40
    assert unknown.tolist() not in (found.tolist(), false.tolist(), missed.tolist())


# displaced labels


def pores_and_label(seed, rows, cols):
    """Pores (90, 130), and a label of them that lies rows lower and cols to the right, some of it unknown."""
    draw = np.random.default_rng(seed)
    large = gaussian_filter(draw.normal(size=(90 + 2 * REACH, 130 + 2 * REACH)), 3) > 0.06
    pore = large[REACH:-REACH, REACH:-REACH]
    label = large[REACH - rows : REACH - rows + 90, REACH - cols : REACH - cols + 130]
    label = label.astype(np.uint8)
    label[draw.random(label.shape) < 0.02] = 255
    label[60:, 100:] = 255
    return pore & (draw.random(pore.shape) > 0.1), label


def moved_iou(pore, label, rows, cols):
    """IoU with the label moved, pixel by pixel; what leaves the image is missed."""
    hit = union = 0
    for row, col in np.ndindex(*label.shape):
        if label[row, col] != 255:
            there = (row + rows, col + cols)
            inside = 0 <= there[0] < pore.shape[0] and 0 <= there[1] < pore.shape[1]
            found, true = bool(inside and pore[there]), label[row, col] == 1
            hit, union = hit + (found and true), union + (found or true)
    return hit / union


@pytest.mark.parametrize("window", [32, 1024])
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.integers(-REACH, REACH), st.integers(-REACH, REACH))
@example(seed=49, rows=16, cols=16)  # fits best by 0.494
@example(seed=0, rows=1, cols=-1)
@example(seed=0, rows=2, cols=0)
def test_a_displaced_label_is_put_where_it_fits(window, seed, rows, cols):
    pore, label = pores_and_label(seed, rows, cols)
    with MonkeyPatch.context() as patch:
        patch.setattr(displacement, "WINDOW", window)
        found = displaced(pore, label)
    in_place, best = (moved_iou(pore, label, *move) for move in ((0, 0), (-rows, -cols)))
    if best < max(FITS, in_place + BETTER) or max(abs(rows), abs(cols)) < LEAST:
        assert found is None
    else:
        assert (found.rows, found.cols) == (-rows, -cols)
        assert found.iou == pytest.approx(best)


def test_pores_that_are_hardly_found_say_nothing_of_a_label():
    pore, label = pores_and_label(0, 5, 0)
    assert displaced(pore, label) is not None
    pore &= np.random.default_rng(0).random(pore.shape) < 0.4
    assert moved_iou(pore, label, -5, 0) > moved_iou(pore, label, 0, 0) + BETTER
    assert displaced(pore, label) is None


@pytest.mark.parametrize("label", [0, 1, 255])
@pytest.mark.parametrize("pore", [False, True])
def test_a_label_of_one_class_is_not_displaced(pore, label):
    assert displaced(np.full((40, 50), pore), np.full((40, 50), label, np.uint8)) is None


def test_a_displacement_is_told_in_words():
    assert str(Displaced(-1, 4, 0.9)) == "1 px up and 4 px to the right"
