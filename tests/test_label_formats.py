"""One drawn specimen in every label format, by its own reference library, gives one label."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import formats
import numpy as np
import pytest
import rasterio
import roifile
import shapely
from affine import Affine
from conftest import warnings_of
from formats import (
    AREAS,
    CODES,
    GRID,
    MORE_IMAGES,
    ON_MAP,
    PLACE,
    PORE,
    QGIS_NO_MAP,
    RECTANGLES,
    SHAPES,
    UTM,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from poreseg.errors import PoresegError, PoresegWarning
from poreseg.labels.coco import _lengths
from poreseg.labels.convert import convert
from poreseg.labels.label import Bitmap, Classes, Grid, Region, draw
from poreseg.labels.labelstudio import painted
from poreseg.labels.rasterise import read_label
from poreseg.labels.registry import READERS, images_in, reader_of
from poreseg.labels.shapes import along_one_axis
from poreseg.labels.write import FORMS, write_label

CLASSES = Classes()
LISTED = Classes(pore=[2, "#0000ff"], matrix=[6, "#808080"], unknown=[10], other="error")
CASES = {
    # outlines
    "labelme polygon": ("a.json", formats.labelme([{"label": n, "points": p, "shape_type": "polygon"} for p, n in SHAPES])),
    "labelme polygon, old": ("a.json", formats.labelme([{"label": n, "points": p, "shape_type": None} for p, n in SHAPES], (None, None))),
    "labelme rectangle": ("a.json", formats.labelme([{"label": n, "points": [p[2], p[0]], "shape_type": "rectangle"} for p, n in SHAPES])),
    "labelme oriented rectangle": ("a.json", formats.labelme([{"label": n, "points": p, "shape_type": "oriented_rectangle"} for p, n in SHAPES])),
    "labelme mask": ("a.json", formats.labelme_mask),
    "geojson collection": ("a.geojson", formats.collection([formats.feature(a) for a in AREAS])),
    "geojson in .json": ("a.json", formats.collection([formats.feature(a) for a in AREAS])),
    "geojson multipolygon": ("a.geojson", formats._json(formats.feature(shapely.MultiPolygon(AREAS)))),
    "geojson parts of one area that overlap": ("a.geojson", formats._json(formats.feature(shapely.MultiPolygon([*AREAS, AREAS[-1]])))),
    "geojson of QuPath": ("a.geojson", formats.qupath),
    "geojson of QGIS, no map": ("a.geojson", formats.collection([formats.feature(a, place=QGIS_NO_MAP) for a in AREAS])),
    "geojson of QGIS, map": ("a.geojson", formats.collection([formats.feature(a, place=PLACE) for a in AREAS], "urn:ogc:def:crs:EPSG::32633"), ON_MAP),
    "geopackage, no map": ("a.gpkg", formats.vector("GPKG")),
    "geopackage, map": ("a.gpkg", formats.vector("GPKG", "EPSG:32633", PLACE, "label"), ON_MAP),
    "shapefile, no map": ("a.shp", formats.vector("ESRI Shapefile")),
    "shapefile, map": ("a.shp", formats.vector("ESRI Shapefile", "EPSG:32633", PLACE), ON_MAP),
    "shapefile, a column of ten letters": ("a.shp", formats.vector("ESRI Shapefile", column="classification", areas=[shapely.Polygon(p) for p, _ in SHAPES], names=[n for _, n in SHAPES])),
    "coco polygons": ("a.json", formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"))),
    "coco run lengths": ("a.json", formats.coco_file([(formats.coco_runs(False), "pore")])),
    "coco run lengths, compressed": ("a.json", formats.coco_file([(formats.coco_runs(True), "pore")])),
    "coco of several images": ("all.json", formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"), MORE_IMAGES)),
    "cvat polygon": ("a.xml", formats.cvat(formats.CVAT_POLYGONS)),
    "cvat box by z order": ("a.xml", formats.cvat(formats.CVAT_BOXES[::-1])),
    "cvat mask": ("a.xml", formats.cvat(formats.cvat_mask())),
    "label studio polygon": ("a.json", formats.studio(formats.STUDIO_POLYGONS)),
    "label studio rectangle": ("a.json", formats.studio(formats.STUDIO_RECTANGLES)),
    "label studio minimal": ("a.json", formats.studio_min),
    "label studio brush": ("a.json", formats.studio_brush(False)),
    "label studio brush, values written out": ("a.json", formats.studio_brush(True)),
    "imagej polygons": ("a.zip", formats.roi_set(formats.roi_polygons())),
    "imagej rectangles": ("a.zip", formats.roi_set(formats.roi_rectangles())),
    "imagej composite": ("a.roi", lambda p: formats.roi_composite().tofile(p)),
    "via polygon": ("a.json", formats.via([formats.via_polygon(p, n) for p, n in SHAPES])),
    "via rectangle, project": ("a.json", formats.via([formats.via_rectangle(*r) for r in RECTANGLES], project=True)),
    "via choices, project": ("a.json", formats.via([formats.via_polygon(p, str(1 + (n == "matrix")), "kind") for p, n in SHAPES], True, _via_attributes=formats.VIA_CHOICES)),
    "via class after a remark": ("a.json", formats.via([formats.via_polygon(p, n, "Class", remark="thin") for p, n in SHAPES])),
    "via phase after an empty remark": ("a.json", formats.via([formats.via_polygon(p, n, "phase", remark="") for p, n in SHAPES])),
    "via regions by number": ("a.json", formats.via({str(i): formats.via_polygon(p, n) for i, (p, n) in enumerate(SHAPES)})),
    # masks
    "png 0/1": ("a.png", formats.picture(PORE)),
    "png 0/255": ("a.png", formats.picture(PORE * 255)),
    "png 0/7": ("a.png", formats.picture(PORE * 7)),
    "png of 1 bit": ("a.png", formats.picture(PORE.astype(bool))),
    "png palette": ("a.png", formats.palette([0, 0, 0, 255, 0, 0])),
    "png palette of one colour beside the ground": ("a.png", formats.palette([192] * 3 + [255, 0, 0])),
    "png palette, ground transparent": ("a.png", formats.palette([0, 0, 0, 255, 0, 0], transparency=0)),
    "png palette, white and black": ("a.png", formats.palette([255] * 3 + [0] * 3, 1 - PORE)),
    "png palette of ImageJ, inverting": ("a.png", formats.palette([255 - i // 3 for i in range(768)], PORE * 255)),
    "png gray, black transparent": ("a.png", formats.picture(PORE * 255, transparency=0)),
    "png rgb, black transparent": ("a.png", formats.picture(np.dstack([PORE * 255] * 3), transparency=(0, 0, 0))),
    "png rgb": ("a.png", formats.picture(np.dstack([PORE * 255] * 3))),
    "png rgb, blue": ("a.png", formats.picture(formats.coloured((0, 0, 255), (0, 0, 0)))),
    "png rgba, opaque": ("a.png", formats.picture(np.dstack([PORE * 255] * 3 + [PORE * 0 + 255]))),
    "png rgba, white on nothing": ("a.png", formats.transparent((255, 255, 255))),
    "png rgba, black on nothing": ("a.png", formats.transparent((0, 0, 0))),
    "png of listed colours": ("a.png", formats.picture(formats.coloured((0, 0, 255), (128, 128, 128))), GRID, LISTED),
    "png palette of listed colours": ("a.png", formats.palette([128, 128, 128, 0, 0, 255]), GRID, LISTED),
    "jpeg": ("a.jpg", formats.picture(PORE * 255, quality=95)),
    "webp": ("a.webp", formats.picture(np.dstack([PORE * 255] * 3), lossless=True)),
    "bmp": ("a.bmp", formats.picture(PORE * 255)),
    "jpeg 2000": ("a.jp2", formats.gdal("JP2OpenJPEG", PORE, QUALITY=100, REVERSIBLE="YES")),
    "tiff 0/255": ("a.tif", formats.tiff(PORE * 255)),
    "tiff 16 bit": ("a.tif", formats.tiff(PORE.astype(np.uint16) * 65535)),
    "tiff float": ("a.tif", formats.tiff(PORE.astype(np.float32))),
    "tiff white is zero": ("a.tif", formats.tiff(255 - PORE * 255, photometric="miniswhite")),
    "tiff of ImageJ, inverting": ("a.tif", formats.tiff(PORE * 255, imagej=True, photometric="miniswhite")),
    "tiff of true and false, as tifffile writes it": ("a.tif", formats.tiff(PORE.astype(bool))),
    "tiff of 1 bit, as Pillow writes it": ("a.tif", formats.picture(PORE.astype(bool))),
    "tiff, nodata 0": ("a.tif", formats.gdal("GTiff", PORE, nodata=0)),
    "tiff of a listed value, nodata 0": ("a.tif", formats.gdal("GTiff", PORE, nodata=0), GRID, Classes(pore=[1])),
    "tiff float, nodata 0": ("a.tif", formats.gdal("GTiff", PORE.astype(np.float32), nodata=0)),
    "tiff lzw": ("a.tif", formats.gdal("GTiff", PORE, compress="lzw")),
    "tiff of QGIS": ("a.tif", formats.gdal("GTiff", PORE, crs=UTM, transform=PLACE), ON_MAP),
    "tiff of listed values": ("a.tif", formats.tiff(CODES), GRID, LISTED),
    "ome-tiff": ("a.ome.tif", formats.tiff(PORE, metadata={"axes": "YX"})),
    "ome-tiff of 5 axes": ("a.ome.tiff", formats.tiff(PORE[None, None, None], metadata={"axes": "TCZYX"})),
    "ome-tiff of numbered pores": ("a.ome.tiff", formats.tiff(formats.numbered(), metadata={"axes": "YX"})),
    "czi": ("a.czi", formats.czi_file(PORE)),
    "npy": ("a.npy", lambda p: np.save(p, PORE.astype(bool))),
}  # fmt: skip


def read(path, grid=GRID, classes=CLASSES):
    return read_label([path], grid, classes).values


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_format_gives_the_same_label(tmp_path, case):
    name, write, *how = case
    write(tmp_path / name)
    found = read(tmp_path / name, *how)
    np.testing.assert_array_equal(found[found != 255], PORE[found != 255])
    wanted_unknown = (
        CODES == 10
        if "listed values" in str(how) or (how[1:] == [LISTED] and name == "a.tif")
        else PORE * 0
    )
    np.testing.assert_array_equal(found == 255, wanted_unknown)


def test_nodata_of_another_value_is_unknown(tmp_path):
    values = PORE.copy()
    values[:4] = 9
    formats.gdal("GTiff", values, nodata=9)(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif") == 255, values == 9)


def test_what_a_mask_within_the_file_leaves_out_is_unknown(tmp_path):
    left_out = np.zeros_like(PORE)
    left_out[:4] = 1
    for nodata in (None, 0):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            formats.gdal("GTiff", PORE * 255, nodata=nodata)(tmp_path / "a.tif")
            with rasterio.open(tmp_path / "a.tif", "r+") as file:
                file.write_mask(left_out == 0)
        np.testing.assert_array_equal(read(tmp_path / "a.tif") == 255, left_out == 1)


def test_a_palette_of_white_and_black_alone_counts_by_its_colours(tmp_path):
    formats.palette([255] * 3 + [0] * 3, np.ones_like(PORE))(tmp_path / "a.png")
    with pytest.warns(PoresegWarning, match="no pore"):
        assert (read(tmp_path / "a.png") == 0).all()


def test_unknown_stays_unknown_whatever_a_palette_looks_like(tmp_path):
    values = PORE.copy()
    values[:4] = 255
    formats.palette([255] * 3 + [0] * 3 + [128] * 762, values)(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), values)


def test_a_label_without_matrix_is_told(tmp_path):
    formats.picture(PORE)(tmp_path / "a.png")
    with pytest.warns(PoresegWarning, match="no matrix"):
        read(tmp_path / "a.png", classes=replace(CLASSES, sparse=True))


def test_every_reader_has_its_cases(tmp_path):
    used = set()
    for number, (name, write, *_) in enumerate(CASES.values()):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number) / name)
        used.add(reader_of(tmp_path / str(number) / name).NAME)
    assert used == {reader.NAME for reader in READERS}


def test_classes_of_apeer_come_in_a_file_each(tmp_path):
    background = (np.arange(24)[:, None] < 18) & (PORE == 0)
    formats.tiff(formats.numbered(), metadata={"axes": "YX"})(tmp_path / "a_pore.ome.tiff")
    formats.tiff(background.astype(np.uint8), metadata={"axes": "YX"})(
        tmp_path / "a_background.ome.tiff"
    )
    paths = [tmp_path / "a_background.ome.tiff", tmp_path / "a_pore.ome.tiff"]
    found = read_label(paths, GRID, Classes(matrix=["background"])).values
    np.testing.assert_array_equal(found == 1, PORE == 1)
    np.testing.assert_array_equal(found == 0, background)  # neither: not annotated
    alone = read_label(paths[1:], GRID, Classes()).values
    np.testing.assert_array_equal(alone, PORE)


def test_with_sparse_labels_what_is_not_marked_is_unknown(tmp_path):
    formats.labelme([{"label": n, "points": p} for p, n in SHAPES])(tmp_path / "a.json")
    drawn = read(tmp_path / "a.json", classes=Classes(sparse=True))
    assert drawn[4, 5] == 1
    assert drawn[7, 9] == 0
    assert drawn[0, 0] == 255
    formats.tiff(CODES * (CODES != 6))(tmp_path / "a.tif")
    mask = read(tmp_path / "a.tif", classes=replace(LISTED, sparse=True))
    np.testing.assert_array_equal(mask, np.where(PORE == 1, 1, 255))
    formats.palette([255] * 3 + [0] * 3, 1 - PORE)(tmp_path / "a.png")  # by its colours
    with pytest.warns(PoresegWarning, match="no matrix"):
        coloured = read(tmp_path / "a.png", classes=Classes(sparse=True))
    np.testing.assert_array_equal(coloured, np.where(PORE == 1, 1, 255))


def test_a_class_that_is_not_listed_is_an_error_that_lists_all(tmp_path):
    formats.labelme(
        [
            {"label": n, "points": p}
            for (p, _), n in zip(SHAPES, ["pore", "Quartz", "pore", "poor", "pore"], strict=True)
        ]
    )(tmp_path / "a.json")
    with pytest.raises(
        PoresegError,
        match=r"class 'Quartz' is neither .* found pore \(3\), Quartz \(1\), poor \(1\)",
    ):
        read(tmp_path / "a.json")
    others = read(tmp_path / "a.json", classes=Classes(other="unknown"))
    assert (others[6:12, 8:11] == 255).all()


@pytest.mark.parametrize(
    ("name", "write"),
    {
        "labelme": ("a.json", formats.labelme([{"label": "pore", "shape_type": "circle", "points": [[60, 40], [60, 70]]}], (None, None))),
        "geojson of QuPath": ("a.geojson", formats._json([{"type": "Feature", "geometry": {"type": "Polygon", "isEllipse": True,
                              "coordinates": [[[30, 10], [90, 10], [90, 70], [30, 70], [30, 10]]]}}])),
        "cvat": ("a.xml", lambda p: p.write_text('<annotations><image name="a.png"><ellipse label="pore" cx="60" cy="40" rx="30" ry="30"/></image></annotations>')),
        "label studio": ("a.json", formats._json([{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "ellipselabels", "value":
                         {"x": 50, "y": 40, "radiusX": 25, "radiusY": 30, "ellipselabels": ["pore"]}}]}]}])),
        "imagej": ("a.roi", lambda p: roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=30, top=10, right=90, bottom=70).tofile(p)),
        "via": ("a.json", formats.via([{"shape_attributes": {"name": "circle", "cx": 60, "cy": 40, "r": 30}, "region_attributes": {}}])),
        "via ellipse": ("a.json", formats.via([{"shape_attributes": {"name": "ellipse", "cx": 60, "cy": 40, "rx": 30, "ry": 30, "theta": 1}, "region_attributes": {}}])),
    }.values(),
)  # fmt: skip
def test_round_shapes_are_discs(tmp_path, name, write):
    write(tmp_path / name)
    found = read(tmp_path / name, Grid(100, 120, image="a.png"))
    rows, cols = np.mgrid[:100, :120] + 0.5
    np.testing.assert_array_equal(found, np.hypot(cols - 60, rows - 40) < 30)


def _quarter_turned(centre):
    """A bar of 20 x 8 px, turned by 90 degrees about a point."""
    x, y = centre
    corners = np.array([[10, 10], [30, 18]]) - [x, y]
    turned = np.sort(np.column_stack([-corners[:, 1] + x, corners[:, 0] + y]), axis=0)
    (left, top), (right, bottom) = turned.astype(int)
    wanted = np.zeros((40, 50), np.uint8)
    wanted[max(top, 0) : bottom, max(left, 0) : right] = 1
    return wanted


def test_turned_boxes_turn_clockwise_about_their_format_s_point(tmp_path):
    grid = Grid(40, 50, image="a.png")
    box = '<box label="pore" xtl="10" ytl="10" xbr="30" ybr="18" rotation="90"/>'
    (tmp_path / "a.xml").write_text(f'<annotations><image name="a.png">{box}</image></annotations>')
    np.testing.assert_array_equal(read(tmp_path / "a.xml", grid), _quarter_turned((20, 14)))
    value = {
        "x": 20,
        "y": 25,
        "width": 40,
        "height": 20,
        "rotation": 90,
        "rectanglelabels": ["pore"],
    }
    task = {
        "data": {"image": "a.png"},
        "annotations": [{"result": [{"type": "rectanglelabels", "value": value}]}],
    }
    (tmp_path / "a.json").write_text(json.dumps([task]))
    np.testing.assert_array_equal(read(tmp_path / "a.json", grid), _quarter_turned((10, 10)))


def test_brush_masks_of_the_label_studio_sdk_are_read():
    made = json.loads((Path(__file__).parent / "data" / "label-studio-brush.json").read_text())
    for example in made["examples"]:
        found = painted(example["rle"], example["height"], example["width"])
        np.testing.assert_array_equal(found, np.array(example["mask"], bool))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
)
def test_compressed_run_lengths_are_as_pycocotools_reads_them(seed, share, height, width):
    pixels = np.asfortranarray(
        np.random.default_rng(seed).random((height, width)) < share, np.uint8
    )
    runs = coco.encode(pixels)
    lengths = _lengths(runs["counts"].decode())
    assert (
        coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)["counts"]
        == runs["counts"]
    )


def test_polygons_agree_with_pycocotools_but_for_the_outline(tmp_path):
    points = [[3.2, 2.1], [28.7, 5.9], [21.4, 20.3], [9.8, 13.6]]
    formats.coco_file([([formats.flat(points)], "pore")])(tmp_path / "a.json")
    reference = coco.decode(coco.frPyObjects([formats.flat(points)], 24, 32))[..., 0]
    found = read(tmp_path / "a.json")
    assert (found != reference).sum() <= 0.02 * reference.sum()


def test_a_label_of_several_images_knows_its_images(tmp_path):
    path = tmp_path / "all.json"
    formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"), MORE_IMAGES)(path)
    assert list(images_in(path)) == ["a.png"]  # b.png has no annotation: it is not labelled
    with pytest.raises(PoresegError, match=r"holds 2 images, c\.png is not among them"):
        read(path, replace(GRID, image="c.png"))


def _outline(x):
    return [[x, 2], [20, 2], [20, 9]]


SEVERAL = {  # labels of images by name, whose outlines begin at so many pixels
    "coco": (".json", lambda marks: json.dumps({
        "images": [{"id": n, "file_name": name, "height": 24, "width": 32} for n, name in enumerate(marks)],
        "categories": [{"id": 1, "name": "pore"}] + [{"id": "2", "name": "more"}] * (len(marks) > 2),
        "annotations": [{"id": number, "image_id": n, "category_id": 1, "segmentation": [formats.flat(_outline(x))]}
                        for number, (n, x) in enumerate((n, x) for n, starts in enumerate(marks.values()) for x in starts)],
    })),
    "via": (".json", lambda marks: json.dumps({
        f"{name}{len(starts)}": {"filename": name, "regions": [formats.via_polygon(_outline(x), "pore") for x in starts]}
        for name, starts in marks.items()
    })),
    "label studio": (".json", lambda marks: json.dumps([
        {"id": n, "data": {"image": f"/data/{name}"}, "annotations": [{"result": [{"value": {"points": _outline(x), "polygonlabels": ["pore"]}} for x in starts]}]}
        for n, (name, starts) in enumerate(marks.items())
    ])),
    "cvat": (".xml", lambda marks: "<annotations>\n" + "".join(
        f'<image id="{n}" name="{name}" height="24" width="32">' + "".join(
            f'<polygon label="pore" points="{x},2;20,2;20,9" z_order="0"/>' for x in starts) + "</image>" + "\n" * n
        for n, (name, starts) in enumerate(marks.items())
    ) + "</annotations>"),
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "content"), SEVERAL.values(), ids=SEVERAL)
def test_what_a_label_of_several_images_says_of_one_is_its_own(tmp_path, suffix, content):
    written = []

    def digests(marks):
        path = tmp_path / f"{len(written)}{suffix}"
        path.write_text(content(marks))
        written.append(path)
        return images_in(path)

    before = digests({"a.png": [5], "b.png": [4, 6]})
    assert list(before) == ["a.png", "b.png"]
    for others in ({"a.png": [5, 8]}, {"a.png": [7]}, {"new.png": [1], "a.png": [5]}):
        after = digests({**others, "b.png": [4, 6], "c.png": [9]})
        assert after["b.png"] == before["b.png"]  # whatever is said of the others
        assert (after["a.png"] == before["a.png"]) == (others["a.png"] == [5])
    assert digests({"b.png": [4, 7]})["b.png"] != before["b.png"]


@pytest.mark.parametrize(("suffix", "content"), SEVERAL.values(), ids=SEVERAL)
def test_a_label_of_several_images_under_the_name_of_one_is_told(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_text(content({"a.png": [5], "b.png": [4, 6]}))
    with pytest.warns(PoresegWarning, match=r"of a\.png, so it .* labels of b\.png as well"):
        read(path, GRID)


@pytest.mark.parametrize(("suffix", "content"), SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("marks", [{"a.png": [5]}, {"a.png": [5], "b.png": []}, {"6f3a-a.png": [5]}], ids=str)  # fmt: skip
def test_a_label_of_one_image_is_told_of_nothing(tmp_path, suffix, content, marks):
    path = tmp_path / f"a{suffix}"
    path.write_text(content(marks))
    assert not warnings_of(lambda: read(path, GRID))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.05, 0.95),
    form=st.sampled_from([*FORMS, "tiff"]),
    sparse=st.booleans(),
)
def test_any_label_survives_the_way_to_a_format_and_back(tmp_path_factory, seed, share, form, sparse):  # fmt: skip
    """Where what is not marked is unknown as well, but in a PNG, whose 0 it would be."""
    random = np.random.default_rng(seed)
    values = random.choice(
        [0, 1, 255], (17, 23), p=[(1 - share) * 0.8, share, (1 - share) * 0.2]
    ).astype(np.uint8)
    values[0, :2] = 1, 0
    suffix = {"mask": ".png", "tiff": ".tif", "geojson": ".geojson"}.get(form, ".json")
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    grid = Grid(17, 23, image="a.png")
    classes = Classes(sparse=sparse and form != "mask")
    write_label(path, values, grid, "mask" if form == "tiff" else form, ground=classes.ground)
    np.testing.assert_array_equal(read(path, grid, classes), values)


@pytest.mark.parametrize("form", ["tiff", "geojson", "labelme", "coco"])
def test_what_poreseg_wrote_means_the_same_whatever_the_classes_are_called(tmp_path, form):
    """In a study of class masks, say, where 1 is matrix and 2 pore."""
    values = np.zeros((24, 32), np.uint8)
    values[2:9, 3:20], values[12:15, 4:9] = 1, 255
    path = tmp_path / {"tiff": "a.tif", "geojson": "a.geojson"}.get(form, "a.json")
    write_label(path, values, GRID, "mask" if form == "tiff" else form)
    numbered = Classes(pore=[2], matrix=[1], unknown=[3], value_255="pore")
    np.testing.assert_array_equal(read(path, classes=numbered), values)


def test_a_mask_of_ours_that_was_painted_in_is_what_the_study_says(tmp_path):
    values = np.zeros((24, 32), np.uint8)
    values[2:9, 3:20], values[12:15, 4:9] = 1, 2
    write_label(tmp_path / "a.tif", values, GRID, "mask")
    found = read(tmp_path / "a.tif", classes=Classes(pore=[2], matrix=[1]))
    np.testing.assert_array_equal(found, values == 2)


def test_a_class_called_pore_is_none_where_the_study_says_so():
    assert Classes(pore=[2]).meaning("Pore") == 1
    assert Classes(pore=["void"], matrix=["pore"]).meaning("Pore") == 0
    assert Classes(pore=["void"]).meaning("porosity") is None
    assert Classes(pore=["vug"], other="matrix").values({"pore": 1}, Path("a")) == {"pore": 0}


def test_a_label_survives_the_way_to_a_map_and_back(tmp_path):
    write_label(tmp_path / "a.geojson", PORE, ON_MAP, "geojson")
    np.testing.assert_array_equal(read(tmp_path / "a.geojson", ON_MAP), PORE)


def test_boxes_of_a_detection_are_told(tmp_path):
    formats.coco_file([([], "pore")])(tmp_path / "none.json")
    content = json.loads((tmp_path / "none.json").read_text())
    content["annotations"][0]["bbox"] = [4, 3, 16, 12]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.warns(
        PoresegWarning, match="1 of 1 annotations of a.png are boxes without an outline"
    ):
        assert read(tmp_path / "a.json").sum() == 16 * 12


def test_what_has_no_area_is_told(tmp_path):
    line = {"label": "pore", "shape_type": "line", "points": [[1, 2], [3, 4]]}
    formats.labelme([line, {"label": "pore", "points": SHAPES[0][0]}])(tmp_path / "a.json")
    with pytest.warns(PoresegWarning, match="1 of type 'line' have no area"):
        assert read(tmp_path / "a.json")[4, 5] == 1


TWO = np.zeros((24, 32, 4), np.uint8)  # pores in red, matrix in blue, on nothing
TWO[PORE == 1] = (255, 0, 0, 255)
TWO[16:19] = (0, 0, 255, 255)
RED_BLUE = Classes(pore=["#ff0000"], matrix=["#0000ff"])


def numbered_grid(values=None, split=False):
    """40 x 40 px with 25 pores, numbered from 1 or by `values`."""
    mask = np.zeros((40, 40), np.uint16)
    for number in range(25):
        row, col = divmod(number, 5)
        value = values[number % len(values)] if values else number + 1
        mask[8 * row + 2 : 8 * row + 6, 8 * col + 2 : 8 * col + 6] = value
    if split:
        mask[0, 0] = 1
    return mask


SLICE = np.concatenate(
    [numbered_grid(), numbered_grid([*range(1, 10), *range(101, 117)])]
)  # 9 numbers twice
BLUE_ON_WHITE = np.full((40, 40, 3), 255, np.uint8)
BLUE_ON_WHITE[(numbered_grid() > 0) & (numbered_grid() < 5)] = (0, 0, 120)
HAZY = np.zeros((24, 32, 4), np.uint8)  # strokes of a soft brush, where two cross more opaque
HAZY[PORE == 1] = (255, 0, 0, 110)
HAZY[:9][PORE[:9] == 1] = (255, 0, 0, 180)


@pytest.mark.parametrize(
    ("pixels", "classes", "wanted"),
    [
        (TWO, RED_BLUE, PORE),
        (TWO, replace(RED_BLUE, sparse=True), np.where(PORE == 1, 1, np.where(TWO[..., 2] > 0, 0, 255))),
        ((PORE == 0) * np.uint8(255), Classes(pore=[0], matrix=[255]), PORE),
        ((PORE == 0) * np.uint8(255), Classes(pore=[0], other="matrix"), np.where(PORE == 1, 1, 255)),
        ((PORE == 0) * np.uint8(255), Classes(pore=["#000000"], matrix=["#ffffff"]), PORE),
        (PORE, Classes(pore=[1], matrix=[0], sparse=True), PORE),
        ((PORE * 2).astype(np.float32), Classes(pore=[2]), PORE),
        (numbered_grid(split=True), Classes(), numbered_grid(split=True) > 0),
        (numbered_grid().astype(np.float32), Classes(), numbered_grid() > 0),
        (SLICE, Classes(), SLICE > 0),
        (HAZY, Classes(), HAZY[..., 3] > 0),
    ],
    ids=["colours on nothing", "colours on nothing, sparse", "zero", "zero alone, 255 unknown", "gray as colour",
         "zero, sparse", "real numbers", "numbered, one fell apart", "numbered, as real numbers", "numbered in a volume", "half opaque paint"],
)  # fmt: skip
def test_values_and_colours_mean_what_params_say(tmp_path, pixels, classes, wanted):
    path = tmp_path / ("a.png" if pixels.dtype == np.uint8 else "a.tif")
    (formats.picture if pixels.dtype == np.uint8 else formats.tiff)(pixels)(path)
    np.testing.assert_array_equal(read(path, Grid(*pixels.shape[:2]), classes), wanted)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (formats.coloured((128, 0, 0), (0, 128, 0)), "2 colours besides black .*#008000.*#800000"),
        (formats.coloured((255, 0, 0), (255, 128, 0)), "2 colours besides black"),
        (TWO, "2 colours besides black"),
        (numbered_grid([1, 1, 1, 2, 255]).astype(np.uint8), "are neither a mask"),
        (numbered_grid([1, 2, 3, 4])[:6, :30].astype(np.uint8), "are neither a mask"),
        (numbered_grid([255] * 24 + [128]).astype(np.uint8), "values 0, 128, 255 are neither"),
        (BLUE_ON_WHITE, "values 120, 255 are neither a mask"),
    ],
    ids=[
        "dark colours",
        "red and orange",
        "on nothing",
        "0, 1, 2, 255",
        "a region of a class each",
        "a shade that fills one area",
        "dark blue on white",
    ],
)
def test_what_could_mean_anything_is_asked(tmp_path, pixels, message):
    formats.picture(pixels)(tmp_path / "a.png")
    with pytest.raises(PoresegError, match=message):
        read(tmp_path / "a.png", Grid(*pixels.shape[:2]))


@pytest.mark.parametrize(
    ("full", "line"),
    [(255, 100), (255, 128), ((255, 0, 0), (0, 0, 100)), ((255, 255, 0), (120, 60, 0))],
)
def test_a_class_of_thin_lines_is_asked(tmp_path, full, line):
    """Cracks beside pores are no soft edges of these; those of a mask at half its size are."""
    rows, cols = np.mgrid[:200, :240]
    pore = np.any([np.hypot(rows - 60, cols - c) < 30 for c in (50, 120, 190)], axis=0)
    pixels = np.zeros((200, 240, *np.shape(full)), np.uint8)
    pixels[pore] = full
    formats.picture(pixels)(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "b.png", Grid(200, 240)), pore)
    pixels[120:122] = line
    formats.picture(pixels)(tmp_path / "a.png")
    with pytest.raises(PoresegError, match="are neither a mask"):
        read(tmp_path / "a.png", Grid(200, 240))
    half = (pore.reshape(100, 2, 120, 2).mean(axis=(1, 3)) * 255).astype(np.uint8)
    formats.picture(half)(tmp_path / "half.png")
    np.testing.assert_array_equal(read(tmp_path / "half.png", Grid(100, 120)), half >= 127.5)


def test_three_deep_values_in_four_places_are_classes_and_asked(tmp_path):
    """As napari saves strokes of three classes."""
    formats.tiff(numbered_grid([1, 2, 3])[:8, :32].astype(np.int32))(tmp_path / "a.tif")
    with pytest.raises(PoresegError, match="are neither a mask"):
        read(tmp_path / "a.tif", Grid(8, 32))
    formats.tiff(numbered_grid([1, 2, 3])[:8, :24].astype(np.int32))(tmp_path / "b.tif")
    np.testing.assert_array_equal(read(tmp_path / "b.tif", Grid(8, 24)), numbered_grid()[:8, :24] > 0)  # fmt: skip


def test_a_palette_that_could_be_read_both_ways_is_asked(tmp_path):
    formats.palette([255, 0, 0, 0, 0, 0], 1 - PORE)(tmp_path / "a.png")
    with pytest.raises(PoresegError, match="shows 0 as #ff0000 and 1 as black"):
        read(tmp_path / "a.png")
    red = Classes(pore=["#ff0000"], matrix=["#000000"])
    np.testing.assert_array_equal(read(tmp_path / "a.png", classes=red), PORE)


def test_a_one_in_a_jpeg_is_a_zero_beside_an_edge(tmp_path):
    rows, cols = np.mgrid[:100, :120]
    random = np.random.default_rng(0)
    for _ in range(200):  # of a dozen such masks one has no other values
        discs = zip(random.integers(10, 90, 3), random.integers(10, 110, 3), random.integers(2, 6, 3), strict=True)  # fmt: skip
        pore = np.any([np.hypot(rows - row, cols - col) < radius for row, col, radius in discs], axis=0)  # fmt: skip
        Image.fromarray(pore * np.uint8(255)).save(tmp_path / "a.jpg", quality=100)
        if set(np.unique(np.asarray(Image.open(tmp_path / "a.jpg"))).tolist()) == {0, 1, 255}:
            break
    else:
        pytest.fail("no JPEG of them has the values 0, 1 and 255 alone")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", Grid(100, 120)), pore)


@pytest.mark.parametrize("paint", [255, 200, 128])
def test_a_mask_as_jpeg_is_soft_whatever_its_gray(tmp_path, paint):
    disc = np.hypot(*np.mgrid[-50:50, -60:60]) < 20
    Image.fromarray((disc * paint).astype(np.uint8)).save(tmp_path / "a.jpg", quality=75)
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", Grid(100, 120)), disc)


@pytest.mark.parametrize(("name", "value_255"), [("b.tif", "pore"), ("b.png", "pore"), ("b.png", "unknown")])  # fmt: skip
def test_unknown_without_pores_is_converted_where_it_stays_unknown(tmp_path, name, value_255):
    """A PNG of 0 and 255 alone says nothing itself."""
    values = np.zeros((24, 32), np.uint8)
    values[:5] = 255
    write_label(tmp_path / "a.tif", values, GRID, "mask")
    with pytest.warns(PoresegWarning, match="no pore"):
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), values)
    Image.fromarray(values).save(tmp_path / "image.png")
    classes, out = Classes(value_255=value_255), tmp_path / name
    given = [tmp_path / "a.tif"], tmp_path / "image.png", "mask", out, None, classes
    if name == "b.png" and value_255 == "pore":
        with (
            pytest.warns(PoresegWarning, match="no pore"),
            pytest.raises(PoresegError, match=r"not written.*a mask in a \.tif, which says itself"),
        ):
            convert(*given)
        assert not out.exists()
    else:
        with pytest.warns(PoresegWarning, match="no pore"):
            convert(*given)
            np.testing.assert_array_equal(read(out, classes=classes), values)


@pytest.mark.parametrize(
    ("crs", "place", "off"),
    [
        (UTM, PLACE @ Affine.translation(3, 4), "5"),
        (UTM, PLACE @ Affine.scale(1, -1), "48"),  # south up
        (UTM, PLACE @ Affine.scale(1.5, 1), "16"),  # of the extent of something else
        ("EPSG:4326", Affine(1e-5, 0, 12, 0, -1e-5, 45), ""),
    ],
    ids=["shifted", "mirrored", "stretched", "elsewhere"],
)
def test_a_mask_that_lies_elsewhere_on_the_map_is_refused(tmp_path, crs, place, off):
    formats.gdal("GTiff", PORE, crs=crs, transform=place)(tmp_path / "a.tif")
    with pytest.raises(
        PoresegError, match=rf"its corners are up to {off}.* px off those of its image"
    ):
        read(tmp_path / "a.tif", ON_MAP)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), PORE)  # the image is on no map


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", 'LOCAL_CS["lab",UNIT["metre",1]]'])
def test_a_mask_in_its_images_place_may_have_another_crs(tmp_path, crs):
    """A local one has no place on the map."""
    place = PLACE
    if crs == "EPSG:4326":
        small = Affine.translation(12, 45) @ Affine.scale(1e-6, -1e-6)
        grid = replace(GRID, crs=rasterio.crs.CRS.from_epsg(4258), transform=small)
        place = small
    else:
        grid = ON_MAP
    formats.gdal("GTiff", PORE, crs=crs, transform=place)(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", grid), PORE)


@pytest.mark.parametrize(
    "write",
    [
        formats.picture(PORE * 255, dpi=(300, 300)),
        formats.tiff(PORE * 255, imagej=True, resolution=(4, 2), metadata={"unit": "um"}),
        formats.gdal("GTiff", PORE, crs=UTM, transform=PLACE @ PLACE.scale(1, 2)),
    ],
    ids=["print size", "ImageJ", "map"],
)
def test_nothing_is_said_of_a_labels_scale(tmp_path, write):
    """It has no say, and read as the image's, whose name it shares, it misleads."""
    write(tmp_path / "a.tif")
    told = warnings_of(lambda: read(tmp_path / "a.tif"))
    assert not [text for text in told if "a.tif" in text]


def test_more_bands_of_a_label_than_colours_are_told(tmp_path):
    bands = np.dstack([PORE * 255] * 3 + [PORE])
    formats.tiff(bands, photometric="rgb", extrasamples=["unspecified"])(tmp_path / "a.tif")
    told = [text for text in warnings_of(lambda: read(tmp_path / "a.tif")) if "a.tif" in text]
    assert told == [f"{tmp_path}/a.tif: 4 bands; reading 1 2 3. Save the label with these alone"]


def test_the_plane_of_an_image_is_that_of_its_label(tmp_path):
    stack = np.stack([PORE * 0, PORE[::-1], PORE])
    formats.tiff(stack, photometric="minisblack")(tmp_path / "a.tif")
    formats.tiff(PORE)(tmp_path / "b.tif")
    third = replace(GRID, plane=3)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", third), PORE)
    np.testing.assert_array_equal(read(tmp_path / "b.tif", third), PORE)


@pytest.mark.parametrize(
    ("properties", "value"),
    [({"Class": "matrix"}, 0), ({"class": 0}, 0), ({"class": 1.0}, 1), ({"CLASS_NAME": "pore"}, 1),
     ({"class": float("nan")}, 1), ({"classification": {"names": ["Ignore*"]}}, 255),
     ({"classification": {"name": "Ignore*"}}, 255), ({"id": 7}, 1), ({"name": "", "type": "matrix"}, 0),
     ({"label": float("nan"), "category": "ignore"}, 255), ({"class": " ", "name": None}, 1), ({"classification": "Matrix"}, 0)],
)  # fmt: skip
def test_classes_of_shapes_are_found_by_the_usual_names(tmp_path, properties, value):
    shape = formats.feature(AREAS[0]) | {"properties": properties}
    formats._json(shape)(tmp_path / "a.geojson")
    classes = Classes(pore=["pore", 1], matrix=["matrix", 0], unknown=["ignore"])
    assert read(tmp_path / "a.geojson", classes=classes)[4, 5] == value


@pytest.mark.parametrize("unseen", ["later", "narrow"])
def test_regions_that_leave_no_pixel_are_told_of(tmp_path, unseen):
    """Unless what lies there is what they say, as where an outline was saved twice."""
    pore, twice, narrow = (formats.feature(shapely.box(*box)) for box in ((4, 4, 9, 9), (4, 4, 9, 9), (12.6, 12.6, 13.4, 13.4)))  # fmt: skip
    outside = formats.feature(shapely.box(-9, -9, -2, -2))
    around = formats.feature(shapely.box(2, 2, 20, 20)) | {"properties": {"class": "matrix"}}
    for shape in (pore, twice, narrow):
        shape["properties"] = {"class": "pore"}
    shapes = [pore, twice, around] if unseen == "later" else [around, pore, twice, narrow]
    formats.collection(shapes)(tmp_path / "a.geojson")
    message = {"later": r"2 of 3 regions leave no pixel \(pore \(2\)\)", "narrow": r"1 of 4 .* \(pore \(1\)\)"}[unseen]  # fmt: skip
    with pytest.warns(PoresegWarning, match=message):
        found = read(tmp_path / "a.geojson")
    assert found.sum() == {"later": 0, "narrow": 25}[unseen]
    formats.collection([around, pore, twice, outside])(tmp_path / "b.geojson")
    assert not [
        text
        for text in warnings_of(lambda: read(tmp_path / "b.geojson"))
        if "leave no pixel" in text
    ]


@pytest.mark.parametrize("area", [Bitmap(5, 6, np.ones((3, 4), bool)), Bitmap(5, 6, np.zeros((0, 0), bool)), shapely.Polygon()])  # fmt: skip
def test_regions_that_leave_no_pixel_are_told_of_if_they_have_any(tmp_path, area):
    regions = [Region(area, "pore"), Region(shapely.box(0, 0, 12, 12), "matrix")]
    found = warnings_of(lambda: draw(regions, GRID, Classes(), tmp_path))
    assert [text.count("1 of 2 regions leave no pixel") for text in found] == [1] * bool(isinstance(area, Bitmap) and area.pixels.size)  # fmt: skip


def test_a_covered_region_that_reaches_over_the_border_is_told_of(tmp_path):
    around = Region(shapely.box(-1, -1, 12, 12), "matrix")
    bow_tie = shapely.Polygon([(-4, 2), (4, 8), (4, 2), (-4, 8)])
    for area in (shapely.box(-20, 2, 3, 6), bow_tie, Bitmap(-2, 3, np.ones((5, 2), bool))):
        with pytest.warns(PoresegWarning, match="1 of 2 regions leave no pixel"):
            draw([Region(area, "pore"), around], GRID, Classes(), tmp_path)


@pytest.mark.parametrize(("share", "sparse"), [(0.5, False), (1, False), (0.5, True)])
def test_outlines_of_a_smaller_copy_are_told_of(tmp_path, share, sparse):
    """Where all else is unknown, one corner may be all that someone has labelled."""
    shapes = [formats.feature(shapely.box(x * share, y * share, (x + 5) * share, (y + 5) * share))
              for y in range(1, 24, 8) for x in range(1, 32, 8)]  # fmt: skip
    formats.collection(shapes)(tmp_path / "a.geojson")
    found = warnings_of(lambda: read(tmp_path / "a.geojson", classes=Classes(sparse=sparse)))
    asked = [text for text in found if "all 12 regions lie in a corner" in text]
    assert len(asked) == (share < 1 and not sparse)


def test_geometry_collections_and_bare_geometries_are_areas(tmp_path):
    parts = [formats.feature(area)["geometry"] for area in AREAS]
    point = {"type": "Point", "coordinates": [1, 1]}
    collection = {"type": "GeometryCollection", "geometries": [*parts, point]}
    shape = {"type": "Feature", "properties": {}, "geometry": collection}
    formats._json(shape)(tmp_path / "a.geojson")
    np.testing.assert_array_equal(read(tmp_path / "a.geojson"), PORE)
    formats._json(formats.feature(shapely.MultiPolygon(AREAS))["geometry"])(tmp_path / "b.geojson")
    np.testing.assert_array_equal(read(tmp_path / "b.geojson"), PORE)


def test_one_shape_over_the_border_does_not_turn_qgis_around(tmp_path):
    over = shapely.box(25, -1, 31, 2)
    shapes = [formats.feature(a, place=QGIS_NO_MAP) for a in [*AREAS[:-1], over]]
    formats.collection(shapes)(tmp_path / "a.geojson")
    np.testing.assert_array_equal(read(tmp_path / "a.geojson")[2:], PORE[2:])


def roi_stack(path):
    rois = [roi for roi in formats.roi_polygons() if roi.name == "pore"][:3]
    for number, roi in enumerate(rois):
        roi.position = number + 1
    formats.roi_set(rois)(path)


def qupath_stack(path):
    found = [formats.feature(area) for area in AREAS[:3]]
    for number, item in enumerate(found):
        item["geometry"]["plane"] = {"c": -1, "z": number, "t": 0}
    formats.collection(found)(path)


def roi_times(path):
    """As ImageJ saves them from a hyperstack of channels and times."""
    rois = [roi for roi in formats.roi_polygons() if roi.name == "pore"][:3]
    for number, roi in enumerate(rois):
        roi.z_position, roi.t_position = 1, number + 1
    formats.roi_set(rois)(path)


@pytest.mark.parametrize(
    ("name", "write"), [("a.zip", roi_stack), ("a.zip", roi_times), ("a.geojson", qupath_stack)]
)
def test_regions_of_a_stack_count_on_their_own_plane(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(PoresegError, match="drawn on planes 1, 2, 3; say which one the image is"):
        read(tmp_path / name)
    found = []
    for plane in (1, 2, 3):
        with pytest.warns(PoresegWarning, match=f"2 regions are on other planes than {plane}"):
            found.append(read(tmp_path / name, replace(GRID, plane=plane)))
    assert all((part == 1).any() for part in found)
    assert len({part.tobytes() for part in found}) == 3
    with pytest.warns(PoresegWarning, match="2 regions are on other planes than 1"):
        first = read(tmp_path / name, replace(GRID, planes=3))  # of a stack the first is read
    np.testing.assert_array_equal(first, found[0])


@pytest.mark.parametrize("name", ["a.zip", "a.geojson"])
def test_regions_of_slices_and_times_are_refused_and_a_lone_plane_is_told(tmp_path, name):
    def write(z, t):
        roi = formats.roi_polygons()[0]
        roi.z_position, roi.t_position = z, t
        item = formats.feature(AREAS[0])
        item["geometry"]["plane"] = {"c": -1, "z": z - 1, "t": t - 1}
        (formats.roi_set([roi]) if name == "a.zip" else formats.collection([item]))(tmp_path / name)

    assert along_one_axis([], tmp_path) == []
    with pytest.raises(
        PoresegError, match="drawn up to slice 2 and time 2; wanted a stack along one of them"
    ):
        along_one_axis([(2, 1), (1, 2)], tmp_path)
    write(2, 3)
    with pytest.raises(
        PoresegError, match="drawn up to slice 2 and time 3; wanted a stack along one of them"
    ):
        read(tmp_path / name, replace(GRID, plane=2))
    write(1, 3)
    with pytest.warns(PoresegWarning, match="drawn on plane 3, which is taken for the image's"):
        assert (read(tmp_path / name) == 1).any()
    with pytest.raises(
        PoresegError, match=r"drawn on plane 3, but of 5 planes of a\.png the first"
    ):
        read(tmp_path / name, replace(GRID, planes=5))
    assert (read(tmp_path / name, replace(GRID, plane=3, planes=5)) == 1).any()


def test_an_outline_without_area_does_not_spoil_the_others(tmp_path):
    line = [[1, 2, 3, 4]], "pore"
    formats.coco_file([*formats.COCO_POLYGONS, line], ("pore", "matrix"))(tmp_path / "a.json")
    formats.collection([formats.feature(shapely.Polygon()), *map(formats.feature, AREAS)])(
        tmp_path / "b.geojson"
    )
    for name in ("a.json", "b.geojson"):
        with pytest.warns(PoresegWarning, match="have no area"):
            np.testing.assert_array_equal(read(tmp_path / name), PORE)


def test_two_tasks_of_one_image_are_an_error(tmp_path):
    formats.studio(formats.STUDIO_POLYGONS)(tmp_path / "a.json")
    task = json.loads((tmp_path / "a.json").read_text())[0]
    (tmp_path / "a.json").write_text(json.dumps([task, task | {"annotations": []}]))
    with pytest.raises(PoresegError, match=r"2 images in it are named a\.png"):
        read(tmp_path / "a.json")


def test_two_images_of_one_name_in_a_file_are_an_error(tmp_path):
    images = [{"id": 7, "file_name": "x/a.png"}, {"id": 8, "file_name": "y/a.png"}]
    formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"), images)(tmp_path / "all.json")
    with pytest.raises(PoresegError, match=r"2 images in it are named a\.png"):
        read(tmp_path / "all.json")


@pytest.mark.parametrize("keys", [("ppl", "xpl"), ("image", "image2")])
def test_marks_of_a_task_of_two_images_are_those_of_each(tmp_path, keys):
    """Or asked for, where they do not say on which they are."""
    marks = [mark | {"to_name": ("ppl", "xpl")[n > 2]} for n, mark in enumerate(formats.STUDIO_POLYGONS)]  # fmt: skip
    formats.studio(marks)(tmp_path / "all.json")
    content = json.loads((tmp_path / "all.json").read_text())
    content[0]["data"] = {"mix": "mortar w0.5", keys[0]: "/data/upload/4/1a2b3c4d-a.png", keys[1]: "b.png"}  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(content))
    if keys[0] == "image":
        with pytest.raises(
            PoresegError, match=r"a task shows a.png, b.png, and its marks do not say"
        ):
            read(tmp_path / "all.json")
        return
    assert images_in(tmp_path / "all.json").keys() == {"a.png", "b.png"}
    first, second = (
        read(tmp_path / "all.json", replace(GRID, image=name)) for name in ("a.png", "b.png")
    )
    np.testing.assert_array_equal(first | second, PORE)
    assert first[:20, :20].any() and not first[20:].any() and second[20:].any()


def test_other_marks_of_label_studio_do_not_hide_a_region(tmp_path):
    region = formats.STUDIO_RECTANGLES[0] | {"id": "r"}
    text = {"id": "r", "type": "textarea", "value": {"text": ["large"]}}
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}}
    place = "https://x.org/a.png?X-Signature=1"
    formats.studio([region, text, choice], place)(tmp_path / "a.json")
    assert read(tmp_path / "a.json")[4, 5] == 1
    sized = {"original_width": 32, "original_height": 24}
    values = [r["value"] | sized for r in formats.STUDIO_POLYGONS]
    task = {"image": "a.png", "polygons": values[:3], "more": values[3:]}
    formats._json([task])(tmp_path / "b.json")
    np.testing.assert_array_equal(read(tmp_path / "b.json"), PORE)


def test_many_masks_of_a_large_image_need_little_memory(tmp_path):
    rows, cols = np.mgrid[:24, :24] - 11.5
    ring = (np.hypot(rows, cols) < 10) & (np.hypot(rows, cols) > 5)
    values = np.tile(np.pad(ring, 4), (32, 32)).astype(np.uint8)  # 1024 pores with holes
    grid = Grid(*values.shape, image="a.png")
    tracemalloc.start()
    write_label(tmp_path / "a.json", values, grid, "coco")
    np.testing.assert_array_equal(read(tmp_path / "a.json", grid), values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 * 2**20
