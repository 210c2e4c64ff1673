"""What labels mean, pixel by pixel."""

import json
import warnings
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
import shapely
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS

from poreseg.drawn.study import save_label
from poreseg.errors import PoresegError, PoresegWarning
from poreseg.images.raster import open_raster, write_raster
from poreseg.labels.label import Classes, Grid, Region, draw
from poreseg.labels.rasterise import on_specimen, rasterise, read_label
from poreseg.labels.write import write_geojson

CLASSES = Classes()
PORE = np.zeros((24, 32), np.uint8)  # asymmetric: a ring with an island, a corner, a bar
PORE[3:15, 4:20] = 1
PORE[6:12, 8:16] = 0
PORE[8:10, 11:13] = 1
PORE[20:, :5] = 1
PORE[1, 25:31] = 1
GRID = Grid(*PORE.shape)


def read(path, grid=GRID, classes=CLASSES):
    return read_label([path], grid, classes).values


def test_255_beside_1_is_unknown(tmp_path):
    label = PORE.copy()
    label[0] = 255
    Image.fromarray(label).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), label)


def test_255_alone_is_pore_unless_params_say_unknown(tmp_path):
    Image.fromarray(PORE * 255).save(tmp_path / "a.png")
    with pytest.warns(PoresegWarning, match="no pore"):
        found = read(tmp_path / "a.png", classes=Classes(value_255="unknown"))
    np.testing.assert_array_equal(found, PORE * 255)


def test_an_antialiased_mask_is_cut_at_half(tmp_path):
    rows, cols = np.mgrid[:200, :240]
    disc = np.clip(60.5 - np.hypot(rows - 90, cols - 130), 0, 1)  # one shaded pixel at the rim
    Image.fromarray(np.rint(disc * 255).astype(np.uint8)).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", Grid(200, 240))
    assert found.sum() == pytest.approx(np.pi * 60**2, rel=0.01)


def test_the_shape_named_unknown_is_unknown(tmp_path):
    square = {"points": [[0, 0], [8, 0], [8, 8], [0, 8]]}
    shapes = [
        {"label": "Pore", **square},
        {"label": "unknown", "points": [[0, 0], [4, 8]], "shape_type": "rectangle"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes}))
    found = read(tmp_path / "a.json")
    assert (found[:8, :4] == 255).all()
    assert (found[:8, 4:8] == 1).all()
    assert not found[8:].any()


def test_a_labelme_circle_is_a_disc(tmp_path):
    circle = {"label": "pore", "shape_type": "circle", "points": [[50, 40], [50, 70]]}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [circle]}))
    found = read(tmp_path / "a.json", Grid(100, 120))
    assert found.sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    assert found[40, 50] == 1
    assert found[40, 85] == 0


def test_a_pixel_belongs_to_the_outline_that_holds_its_centre(tmp_path):
    shape = {"label": "pore", "points": [[1.4, 1.4], [4.6, 1.4], [4.6, 3.6], [1.4, 3.6]]}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape]}))
    found = read(tmp_path / "a.json", Grid(6, 8))
    wanted = np.zeros((6, 8), np.uint8)
    wanted[1:4, 1:5] = 1  # centres at 1.5 to 4.5 and 1.5 to 3.5
    np.testing.assert_array_equal(found, wanted)


def test_a_self_crossing_outline_keeps_both_lobes(tmp_path):
    bow = {"label": "pore", "points": [[0, 0], [20, 20], [20, 0], [0, 20]]}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [bow]}))
    found = read(tmp_path / "a.json")
    assert found[10, 2] == 1
    assert found[10, 17] == 1
    assert found[2, 10] == 0


def test_outlines_are_annotations_of_their_class_in_qupath(tmp_path):
    write_geojson(tmp_path / "a.geojson", [(0, PORE)], Grid(24, 32))
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    for each in features:
        assert each["properties"]["objectType"] == "annotation"
        assert each["properties"]["classification"] == {"name": "pore"}
    np.testing.assert_array_equal(read(tmp_path / "a.geojson"), PORE)


def test_geojson_of_a_map_is_in_map_coordinates(tmp_path):
    utm = CRS.from_epsg(32633)
    grid = Grid(24, 32, utm, Affine(0.5, 0, 3e5, 0, -0.5, 5e6))
    ring = [
        [3e5 + 2, 5e6 - 1],
        [3e5 + 6, 5e6 - 1],
        [3e5 + 6, 5e6 - 4],
        [3e5 + 2, 5e6 - 4],
        [3e5 + 2, 5e6 - 1],
    ]
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    (tmp_path / "a.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    wanted = np.zeros((24, 32), np.uint8)
    wanted[2:8, 4:12] = 1
    np.testing.assert_array_equal(read(tmp_path / "a.geojson", grid), wanted)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.05, 0.95),
    suffix=st.sampled_from([".geojson", ".json"]),
)
def test_any_raster_survives_the_way_to_polygons_and_back(tmp_path_factory, seed, share, suffix):
    label = (np.random.default_rng(seed).random((17, 23)) < share).astype(np.uint8)
    label[0, 0] = 1
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    save_label(path, label, "a.png")
    np.testing.assert_array_equal(read(path, Grid(17, 23)), label)


def _json(path, content):
    path.write_text(json.dumps(content))


def _zip(path, member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "<annotations/>")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda p: Image.fromarray(PORE[1:]).save(p), "the label is 32x23 px, its image 32x24; export"),
        ("a.json", lambda p: _json(p, {"shapes": [], "imageHeight": 9, "imageWidth": 8}), "drawn on 8x9 px, the image is 32x24; label the image at full size"),
        ("a.png", lambda p: Image.fromarray((np.arange(768) % 251).astype(np.uint8).reshape(24, 32)).save(p), "are neither a mask"),
        ("a.png", lambda p: Image.fromarray(PORE * 2 + np.eye(24, 32, dtype=np.uint8) * 4).save(p), "are neither a mask"),
        ("a.png", lambda p: Image.fromarray(PORE + 1).save(p), "values 1 and 2; wanted 0 for matrix"),
        ("a.png", lambda p: p.write_bytes(b"\x89PNG..."), "cannot be read as an image"),
        ("a.geojson", lambda p: p.write_text("{"), "cannot be read as JSON"),
        ("a.geojson", lambda p: _json(p, {"features": 3}), "no list of features"),
        ("a.geojson", lambda p: _json(p, {"features": [{"geometry": {"type": "Polygon", "coordinates": [[1]]}}]}), "cannot be read as GeoJSON"),
        ("a.json", lambda p: _json(p, {"pores": []}), "its format is not read; wanted GeoJSON, LabelMe, COCO"),
        ("a.zip", lambda p: _zip(p, "annotations.xml"), r"its format is not read; wanted .*; unpack it, and put what is within into labels/"),
        ("a.zip", lambda p: p.write_bytes(b"PK.."), "cannot be read as a label"),
        ("a.json", lambda p: _json(p, {"shapes": [{"label": "pore", "points": [[1, None], [2, 3], [4, 5]]}]}), "cannot be read as LabelMe"),
        ("a.json", lambda p: _json(p, {"shapes": [{"label": "pore", "shape_type": "circle", "points": [[1, 2]]}]}), "wants two points"),
        ("a.json", lambda p: _json(p, {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "category_id": 9, "bbox": [2, 2, 9, 9]}]}), "class 'category 9' is neither pore"),
        ("a.json", lambda p: _json(p, {"shapes": [{"label": "grain", "points": [[1, 2], [9, 2], [9, 9]]}]}), r"class 'grain' is neither pore, matrix nor unknown; found grain \(1\)"),
    ],
)  # fmt: skip
def test_a_bad_label_is_one_line_that_names_it(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(PoresegError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_outlines_that_miss_the_image_are_refused(tmp_path):
    far = {"label": "pore", "points": [[500, 500], [510, 500], [510, 510]]}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [far]}))
    with pytest.raises(PoresegError, match="all regions lie outside the image"):
        read(tmp_path / "a.json")


def test_regions_beyond_the_image_are_told(tmp_path):
    outlines = [[[2, 2], [9, 2], [9, 9]], [[50, 2], [60, 2], [60, 9]]]  # the image is 32 px wide
    shapes = [{"label": "pore", "points": points} for points in outlines]
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes}))
    with pytest.warns(
        PoresegWarning, match=r"1 of 2 regions lie outside .*\(x 2 to 60 .* another size"
    ):
        assert read(tmp_path / "a.json").any()


def test_regions_without_a_class_among_others_are_told(tmp_path):
    squares = [shapely.box(2, 2, 9, 9), shapely.box(12, 2, 19, 9)]
    regions = [Region(squares[0], "matrix"), Region(squares[1])]
    with pytest.warns(
        PoresegWarning, match=r"1 regions have no class, where others do \(matrix \(1\)\)"
    ):
        draw(regions, GRID, Classes(), tmp_path / "a.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(regions[1:], GRID, Classes(), tmp_path / "a.json")


def test_pores_where_the_image_shows_no_specimen_are_told():
    valid = np.ones(PORE.shape, bool)
    assert (on_specimen(PORE, valid, "a.png") == PORE).all()
    with pytest.warns(
        PoresegWarning, match="100 % of its labelled pores lie where it shows no specimen"
    ):
        values = on_specimen(PORE, PORE == 0, "a.png")
    np.testing.assert_array_equal(values, np.where(PORE == 1, 255, 0))


def test_of_a_label_s_planes_the_first_is_taken_and_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([PORE, 1 - PORE]), metadata={"axes": "ZYX"})
    with pytest.warns(
        PoresegWarning, match="2 planes .*the first is taken.* save it as a file of its own"
    ):
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), PORE)


def test_several_colours_could_mean_anything(tmp_path):
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[PORE == 1] = (0, 0, 255)
    colours[15:19] = (255, 0, 0)
    Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(PoresegError, match="2 colours besides black"):
        read(tmp_path / "a.png")


def test_a_label_without_a_pore_is_told(tmp_path):
    Image.fromarray(PORE * 0).save(tmp_path / "a.png")
    with pytest.warns(PoresegWarning, match="no pore"):
        assert not read(tmp_path / "a.png").any()


def test_where_there_is_no_specimen_the_label_is_unknown(tmp_path):
    valid = np.ones(PORE.shape, bool)
    valid[:4] = False
    write_raster(tmp_path / "r.tif", PORE, valid=valid)
    Image.fromarray(PORE).save(tmp_path / "a.png")
    rasterise([tmp_path / "a.png"], tmp_path / "r.tif", tmp_path / "l.tif", image="a.png",
              **asdict(CLASSES))  # fmt: skip
    with open_raster(tmp_path / "l.tif") as label:
        assert (label.band()[:4] == 255).all()
        np.testing.assert_array_equal(label.band()[4:], PORE[4:])
