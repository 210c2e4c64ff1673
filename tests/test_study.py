"""Images, labels and specimens find each other; nobody stands on both sides of a split."""

import json
import warnings
from pathlib import Path

import formats
import pytest
from conftest import warnings_of
from hypothesis import given
from hypothesis import strategies as st

from poreseg.errors import PoresegError, PoresegWarning
from poreseg.labels.label import Classes, Grid
from poreseg.labels.rasterise import read_label
from poreseg.names import composed
from poreseg.split import split_study
from poreseg.study import Sample, read_study

SPLIT = {"by": "specimen", "test_fraction": 0.25, "folds": 1, "validation_fraction": 0.2, "seed": 1}


def make(tmp_path, images, labels, table=None):
    for folder, names in (("images", images), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"")
    if table is not None:
        content = table if isinstance(table, bytes) else table.encode()
        (tmp_path / "samples.csv").write_bytes(content)
    return tmp_path


def sample(name, specimen=None, role="unassigned", suffix=".tif"):
    return Sample(
        name, Path(f"{name}{suffix}"), (Path(f"{name}.png"),), specimen or name, role=role
    )


def test_labels_find_their_images_by_name(tmp_path):
    folder = make(tmp_path, ["a.tif", "b.ome.tif", "c.jpg"], ["a.geojson", "b.png"])
    found = {s.name: (s.labels[0].name if s.labels else None, s.role) for s in read_study(folder)}
    assert found == {
        "a": ("a.geojson", "unassigned"), "b": ("b.png", "unassigned"), "c": (None, "unlabelled"),
    }  # fmt: skip


def test_samples_csv_overrides(tmp_path):
    folder = make(
        tmp_path, ["a.tif", "b.tif"], ["a.png", "x.png"],
        "image,label,specimen,pixel_size_um,split\nb.tif,x.png,S1,0.5,test\n",
    )  # fmt: skip
    a, b = read_study(folder)
    assert (a.specimen, a.pixel_size_um, a.labels[0].name) == ("a", None, "a.png")
    assert (b.specimen, b.pixel_size_um, b.labels[0].name, b.role) == ("S1", 0.5, "x.png", "test")


def test_samples_csv_says_how_an_image_is_read(tmp_path):
    table = "image,channel,plane,data_bar_px\na.tif,1 3 2,4,60\nb.tif,2,,0\n"
    a, b = read_study(make(tmp_path, ["a.tif", "b.tif"], [], table))
    assert (a.channel, a.plane, a.data_bar_px) == ((1, 3, 2), 4, 60)
    assert (b.channel, b.plane, b.data_bar_px) == ((2,), None, 0)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("image,pixel_size_um\na.tif,1,25\n", "line 2 has more cells than there are columns; wanted numbers with a point"),
        ("image,pixel_size_um,specimen\na.tif,1,25,\n", "line 2 has more cells"),
        ("image;pixel_size_um\na.tif;1,25\n", "semicolons between its cells"),
        ("image;pixel_size_um\na.tif;1.25\n", "semicolons between its cells"),
    ],
)  # fmt: skip
def test_a_decimal_comma_is_told_and_no_other_scale_taken(tmp_path, table, told):
    with pytest.raises(PoresegError, match=told):
        read_study(make(tmp_path, ["a.tif"], [], table))


def test_rows_that_a_spreadsheet_leaves_empty_are_no_matter(tmp_path):
    (a,) = read_study(make(tmp_path, ["a.tif"], [], "image,pixel_size_um\na.tif,1.25\n,,,\n"))
    assert a.pixel_size_um == 1.25


def test_masks_of_a_class_each_belong_to_their_image(tmp_path):
    names = ["a_pore.ome.tiff", "a_background.ome.tiff", "a_2_pore.ome.tiff"]
    a, a_2 = read_study(make(tmp_path, ["a.tif", "a_2.tif"], names))
    assert [path.name for path in a.labels] == ["a_background.ome.tiff", "a_pore.ome.tiff"]
    assert [path.name for path in a_2.labels] == ["a_2_pore.ome.tiff"]


def test_a_label_of_several_images_belongs_to_those_that_it_labels(tmp_path):
    folder = make(tmp_path, ["a.png", "b.png", "c.png"], [])
    formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"), formats.MORE_IMAGES)(
        folder / "labels" / "coco.json"
    )
    assert {s.name: [p.name for p in s.labels] for s in read_study(folder)} == {
        "a": ["coco.json"],
        "b": [],
        "c": [],
    }
    (folder / "images" / "a.png").rename(folder / "images" / "d.png")
    with pytest.raises(
        PoresegError,
        match=r"coco.json: of the 1 images that it labels \(a\) none is in .*; add or rename them",
    ):
        read_study(folder)


def test_the_files_beside_a_shapefile_are_no_labels(tmp_path):
    folder = make(tmp_path, ["a.tif"], ["a.shp", "a.shx", "a.dbf", "a.prj", "a.cpg"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [p.name for s in read_study(folder) for p in s.labels] == ["a.shp"]


def test_empty_rows_of_a_spreadsheet_are_no_images(tmp_path):
    folder = make(tmp_path, ["a.tif"], ["a.png"], "image,specimen\na.tif,s\n,\n,,\n")
    assert [s.specimen for s in read_study(folder)] == ["s"]


def test_a_row_that_names_a_shared_label_leaves_it_to_the_other_images(tmp_path):
    folder = make(tmp_path, ["a.png", "b.png", "c.png"], [], "image,label\na.png,coco.json\n")
    images = [
        {"id": n, "file_name": f"{name}.png", "height": 24, "width": 32}
        for n, name in enumerate("abc", 7)
    ]
    formats.coco_file(formats.COCO_POLYGONS, ("pore", "matrix"), images)(
        folder / "labels/coco.json"
    )
    content = json.loads((folder / "labels/coco.json").read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 99, "image_id": 9})
    (folder / "labels/coco.json").write_text(json.dumps(content))
    assert [len(s.labels) for s in read_study(folder)] == [1, 0, 1]  # b has no annotation
    (folder / "labels/other.json").write_bytes((folder / "labels/coco.json").read_bytes())
    (folder / "samples.csv").write_text("image,label\na.png,coco.json\nb.png,other.json\n")
    with pytest.raises(PoresegError, match=r"both label c\.png"):
        read_study(folder)
    with (folder / "samples.csv").open("a") as table:  # which says which one counts
        table.write("c.png,coco.json\n")
    assert [s.labels[0].name for s in read_study(folder)] == [
        "coco.json",
        "other.json",
        "coco.json",
    ]


@pytest.mark.parametrize(
    ("images", "labels", "table", "message"),
    [
        ([], [], None, "no images in"),
        (["a{b}.tif"], [], None, r"a{b}.tif: { and } in a file name; rename it"),
        (["q<b>.tif"], [], None, r"q<b>.tif: < and > in a file name; rename it"),
        ([f"{'ö' * 91}.tif"], [], None, "its name has 182 bytes; wanted at most 180"),
        (["a.tif", "a.png"], [], None, "two images are named a: .*a.png and .*a.tif; rename one"),
        (["a.tif"], ["a.json", "a.png"], None, "two labels are named a"),
        (["a.tif"], ["b.png"], None, r"b.png: there is no image of that name"),
        (
            ["a.tif"],
            [],
            "image,speciment\na.tif,s\n",
            "unknown column 'speciment' .did you mean 'specimen'",
        ),
        (["a.tif"], [], "label\na.png\n", "no column 'image'"),
        (["a1.tif"], [], "image\na2.tif\n", "no image a2.tif .* .did you mean 'a1.tif'"),
        (["a.tif"], [], "image,label\na.tif,b.png\n", "no label b.png"),
        (
            ["a.tif"],
            [],
            "image,split\na.tif,tset\n",
            "split of a.tif is 'tset'; wanted train, test",
        ),
        (["a.tif"], [], "image,pixel_size_um\na.tif,-1\n", "is '-1'; wanted a number above 0"),
        (["a.tif"], [], "image,pixel_size_um\na.tif,nan\n", "is 'nan'; wanted a number above 0"),
        (["a.tif"], [], "image\na.tif\na.tif\n", "a.tif has two rows; remove one"),
        (["a.tif"], [], "image,,split\na.tif,,\n", "column 2 has no name"),
        (
            ["a.tif"],
            [],
            "image,pixel_size_um,,\na.tif,1,25,\n",
            "line 2 has more cells than there are columns",
        ),
        (
            ["a.tif", "b.tif"],
            [],
            'image,specimen\na.tif,"s\nb.tif,s\n',
            r"a cell runs on to line 3 \(s \.\.\.\)",
        ),
        (["a.tif"], [], 'image,"specimen\na.tif,s\n', "a cell runs on to line 2"),
        (["a.tif"], [], "", "no column 'image'"),
        (
            ["a.tif"],
            [],
            "image,specimen\na.tif,M\u00f6rtel\n".encode("cp1252"),
            "save it as CSV UTF-8",
        ),
        (
            ["a.tif"],
            [],
            "image,channel\na.tif,red\n",
            "channel of a.tif is 'red'; wanted 1, or 1 2 3",
        ),
        (
            ["a.tif"],
            [],
            "image,plane\na.tif,0\n",
            "plane of a.tif is '0'; wanted a whole number from 1 on",
        ),
        (["a.tif"], [], "image,plane\na.tif,1 2\n", "plane of a.tif is '1 2'; wanted a whole"),
        (["a.tif"], ["a.png", "a_pore.ome.tif"], None, "both label a.tif; remove one"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, images, labels, table, message):
    with pytest.raises(PoresegError, match=message) as error:
        read_study(make(tmp_path, images, labels, table))
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_an_empty_study(tmp_path):
    with pytest.raises(PoresegError, match="no images in"):
        read_study(tmp_path / "nowhere")


def test_other_files_are_left_out_aloud(tmp_path):
    folder = make(tmp_path, ["a.tif", "notes.txt", ".DS_Store"], [])
    with pytest.warns(PoresegWarning, match=r"notes.txt: left out"):
        assert [s.name for s in read_study(folder)] == ["a"]


def test_a_label_of_several_images_counts_by_the_very_name(tmp_path):
    folder = make(tmp_path, ["c.png", "d.png"], [])
    names = ["c.jpg", "c.png", "some/folder/d.tif", "c.bmp"]
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    parts = []
    for changed in range(4):
        annotations = [
            {"image_id": n, "category_id": 1, "bbox": [2, 2, 9, 9 + (n == changed)]}
            for n in range(4)
        ]
        content = {
            "images": images,
            "categories": [{"id": 1, "name": "pore"}],
            "annotations": annotations,
        }
        path = folder / "labels" / f"all-{changed}.json"
        path.write_text(json.dumps(content))
        parts.append([sample.part for sample in read_study(folder)])
        path.unlink()
    (c, d), c_changed, d_changed, other = parts
    assert c_changed[0] != c and c_changed[1] == d
    assert d_changed[0] == c and d_changed[1] != d
    assert other == [c, d]


def test_folders_within_are_told(tmp_path):
    folder = make(tmp_path, ["a.tif"], ["a.png"])
    (folder / "images" / "more").mkdir()
    told = r"more: left out, a folder; put the images in it into .*images$"
    with pytest.warns(PoresegWarning, match=told):
        assert [s.name for s in read_study(folder)] == ["a"]


@pytest.mark.parametrize("name", ["Samples.csv", "samples.xlsx", "samples.csv.txt", "sample.csv"])
def test_a_table_of_nearly_the_right_name_is_told(tmp_path, name):
    folder = make(tmp_path, ["a.tif"], [])
    (folder / name).write_text("image,specimen\na.tif,S1\n")
    with pytest.warns(PoresegWarning, match=f"{name}: not read; .* samples.csv"):
        read_study(folder)


def test_a_link_to_nothing_is_told(tmp_path):
    folder = make(tmp_path, ["a.tif"], [])
    (folder / "labels" / "a.png").symlink_to("/not/mounted/a.png")
    with pytest.raises(
        PoresegError, match=r"a\.png: a link to /not/mounted/a\.png, which is not there"
    ):
        read_study(folder)


def test_an_image_for_test_without_a_label_is_told(tmp_path):
    folder = make(tmp_path, ["a.tif", "b.tif"], ["b.png"], "image,split\na.tif,test\n")
    with pytest.warns(PoresegWarning, match=r"without a label, so they test nothing: a\.tif"):
        read_study(folder)


def test_specimens_that_differ_by_capitals_are_told(tmp_path):
    table = "image,specimen\na.tif,Core1\nb.tif,core1\nc.tif,core2\n"
    folder = make(tmp_path, ["a.tif", "b.tif", "c.tif"], [], table)
    with pytest.warns(
        PoresegWarning, match="Core1 and core1 are taken for different specimens"
    ) as told:
        read_study(folder)
    assert len(told) == 1


@pytest.mark.parametrize(("other", "count"), [("core  1", 1), ("Core\u00a01", 1), ("core-1", 1), ("core_1", 1), ("core1", 0), ("core 11", 0), ("core -1", 0)])  # fmt: skip
def test_specimens_that_differ_by_blanks_are_told(tmp_path, other, count):
    folder = make(tmp_path, ["a.tif", "b.tif"], [], f"image,specimen\na.tif,core 1\nb.tif,{other}\n")  # fmt: skip
    found = warnings_of(lambda: read_study(folder))
    assert [text.count("taken for different specimens") for text in found] == [1] * count


@pytest.mark.parametrize(("table", "left_out"), [("image,specimen\na.tif,s\nb.tif,s\n", "c.tif, d.tif"), ("image,specimen\na.tif,s\nb.tif,s\nc.tif,\nd.tif,t\n", "c.tif"),
                                                 ("image,split\na.tif,test\n", None), ("image,specimen\na.tif,s\nb.tif,s\nc.tif,t\nd.tif,t\n", None)])  # fmt: skip
def test_labelled_images_that_a_table_gives_no_specimen_are_told(tmp_path, table, left_out):
    """Slices that came later, most likely; without a label they are for neither training nor test."""
    folder = make(tmp_path, [f"{name}.tif" for name in "abcde"], [f"{name}.png" for name in "abcd"], table)  # fmt: skip
    found = warnings_of(lambda: read_study(folder))
    assert [text.split("given: ")[1].split(";")[0] for text in found] == ([left_out] if left_out else [])  # fmt: skip


def test_columns_and_rows_that_a_spreadsheet_left_empty_are_none(tmp_path):
    folder = make(tmp_path, ["a.tif"], [], "image,specimen,,\na.tif,s,,\n,,,\n")
    assert [sample.specimen for sample in read_study(folder)] == ["s"]


def test_names_whose_accents_are_stored_apart_are_the_same(tmp_path):
    apart, whole = "mo\u0308rtel", "m\u00f6rtel"
    table = f"image,specimen\n{whole}.tif,S1\n"
    folder = make(tmp_path, [f"{apart}.tif"], [f"{whole}.png"], table)
    (found,) = read_study(folder)
    assert (found.name, found.specimen, found.labels[0].name) == (whole, "S1", f"{whole}.png")


def test_a_shared_label_knows_an_image_whose_accents_are_stored_apart(tmp_path):
    names = ["mo\u0308rtel.png", "m\u00f6rtel.tif"]  # by the stem alone they are one
    folder = make(tmp_path, names[:1], [])
    content = {
        "images": [
            {"id": n, "file_name": composed(name), "height": 9, "width": 9}
            for n, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "pore"}],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [n, n, 3, 3]} for n in range(2)],
    }
    (folder / "labels" / "all.json").write_text(json.dumps(content))
    (found,) = read_study(folder)
    label = read_label(found.labels, Grid(9, 9, image=found.image.name), Classes())
    assert label.values[:3, :3].all() and label.values.sum() == 9


def test_images_of_a_shared_label_that_are_not_there_are_told(tmp_path):
    folder = make(tmp_path, ["a.png"], [])
    names = ["a.png", "b_jpg.rf.3f2a.jpg"]
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "categories": [],
        "annotations": [{"image_id": n, "bbox": [2, 2, 9, 9]} for n in range(2)],
    }
    (folder / "labels" / "all.json").write_text(json.dumps(content))
    with pytest.warns(PoresegWarning, match=r"1 of the 2 images .* b_jpg\.rf\.3f2a"):
        assert read_study(folder)[0].labels


def roles(study):
    return {s.name: (s.role, s.fold) for s in study.samples}


def test_named_test_images_are_kept_and_specimens_stay_whole():
    samples = [
        sample("a", "S1"),
        sample("b", "S1"),
        sample("c"),
        sample("d"),
        sample("t", role="test"),
    ]
    study = split_study(samples, "x", **SPLIT)
    assert roles(study)["t"] == ("test", None)
    assert roles(study)["a"] == roles(study)["b"]
    assert sum(role == "test" for role, _ in roles(study).values()) == 1


def test_a_specimen_in_training_and_test_stops_the_build():
    samples = [sample("a", "S1"), sample("b", "S1", "test"), sample("c"), sample("d")]
    with pytest.raises(PoresegError, match=r"specimen S1 is in training and in test"):
        split_study(samples, "x", **SPLIT)


def test_one_specimen_names_the_param_that_splits_by_image():
    samples = [sample(f"slice{i}", "core") for i in range(6)]
    with pytest.raises(PoresegError, match=r"split\.by: image"):
        split_study(samples, "x", **SPLIT)
    with pytest.warns(PoresegWarning, match="so the score is too high"):
        study = split_study(samples, "x", **SPLIT | {"by": "image"})
    assert {role for role, _ in roles(study).values()} == {"train", "validation", "test"}


def test_a_single_image_trains_and_nothing_validates():
    with pytest.warns(PoresegWarning, match="a is the only specimen to learn from"):
        study = split_study([sample("a"), sample("t", role="test")], "x", **SPLIT)
    assert roles(study) == {"a": ("train", None), "t": ("test", None)}
    assert study.folds_for("a") == study.folds_for("t") == [0]


@pytest.mark.parametrize("folds", [0, 1, 3])
def test_a_single_specimen_trains_whole_where_another_one_tests(folds):
    samples = [sample("a", "core1"), sample("b", "core1"), sample("t", "core2", "test")]
    with pytest.warns(PoresegWarning, match="core1 is the only specimen to learn from"):
        study = split_study(samples, "x", **SPLIT | {"folds": folds})
    assert roles(study) == {"a": ("train", None), "b": ("train", None), "t": ("test", None)}
    assert study.folds == 1


def test_two_specimens_leave_no_test_and_say_so():
    with pytest.warns(PoresegWarning, match="no test images"):
        study = split_study([sample("a"), sample("b")], "x", **SPLIT)
    assert sorted(role for role, _ in roles(study).values()) == ["train", "validation"]


def test_that_samples_csv_leaves_nothing_for_test_is_told():
    with pytest.warns(PoresegWarning, match="no test images: samples.csv gives all of them"):
        split_study([sample(name, role="train") for name in "abcdef"], "x", **SPLIT)


def test_no_labels_is_an_error():
    with pytest.raises(PoresegError, match="no labels in"):
        split_study([Sample("a", Path("a.tif"), None, "a", None, "unlabelled")], "x", **SPLIT)


def test_more_folds_than_specimens_is_an_error():
    with pytest.raises(PoresegError, match=r"split.folds is 9, but there are 4 training specimens"):
        split_study([sample(n) for n in "abcde"], "x", **SPLIT | {"folds": 9})


def test_with_folds_each_image_is_predicted_by_the_model_that_has_not_seen_it():
    samples = [sample(n) for n in "abcdef"] + [sample("t", role="test")]
    study = split_study(samples, "x", **SPLIT | {"folds": 3})
    assert study.folds_for("t") == [0, 1, 2]
    assert all(study.folds_for(n) == [study[n].fold] for n in "abcdef")
    leave_one_out = split_study(samples, "x", **SPLIT | {"folds": 0})
    assert leave_one_out.folds == 6
    assert len({leave_one_out[n].fold for n in "abcdef"}) == 6


@given(
    specimens=st.lists(st.integers(0, 8), min_size=3, max_size=30),
    seed=st.integers(0, 50), folds=st.integers(0, 3), by=st.sampled_from(["specimen", "image"]),
)  # fmt: skip
def test_no_group_ever_stands_on_two_sides(specimens, seed, folds, by):
    samples = [sample(f"i{i}", f"S{s}") for i, s in enumerate(specimens)]
    settings = SPLIT | {"seed": seed, "folds": folds, "by": by}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoresegWarning)
        try:
            study = split_study(samples, "x", **settings)
        except PoresegError:
            return
    sides = {}
    for s in study.samples:
        sides.setdefault(s.specimen if by == "specimen" else s.name, set()).add((s.role, s.fold))
    assert all(len(found) == 1 for found in sides.values())
    for fold in range(study.folds):
        assert any(s.fold == fold for s in study.samples), "a fold without validation images"
        assert any(s.role != "test" and s.fold != fold for s in study.samples), "nothing to learn"


def test_a_format_that_few_specimens_have_is_not_held_out():
    samples = [sample(f"t{i}") for i in range(7)] + [
        sample("p0", suffix=".jpg"),
        sample("p1", suffix=".jpg"),
    ]
    samples.append(sample("t", role="test"))
    for seed in range(20):
        study = split_study(samples, "x", **SPLIT | {"seed": seed})
        assert roles(study)["p0"] == roles(study)["p1"] == ("train", None)


def test_a_new_image_does_not_shuffle_the_others():
    names = [f"i{i}" for i in range(20)]
    before = split_study([sample(n) for n in names], "x", **SPLIT)
    after = split_study([sample(n) for n in [*names, "new"]], "x", **SPLIT)
    changed = [n for n in names if before[n].role != after[n].role]
    assert len(changed) <= 2


def test_a_study_that_is_asked_for_an_image_it_has_not_says_so():
    study = split_study([sample("slice1"), sample("b")], "x", **SPLIT)
    assert study["b"].name == "b"
    with pytest.raises(PoresegError, match=r"x: no image slcie1 .did you mean 'slice1'"):
        study["slcie1"]
