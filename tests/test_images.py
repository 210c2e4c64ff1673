"""Every common picture becomes the same kind of raster, and a bad one a single clear line."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from poreseg.errors import PoresegError, PoresegWarning
from poreseg.images.companions import companions, fingerprint
from poreseg.images.ingest import ingest
from poreseg.images.raster import open_raster
from poreseg.images.windows import Window
from poreseg.labels.label import Grid

LEVELS = {"low_percentile": 0.0, "high_percentile": 100.0, "data_bar": "auto", "border": "auto"}
STATISTICS = """<PAMDataset>
  <PAMRasterBand band="1">
    <Histograms><HistItem><HistMin>0</HistMin><HistMax>137</HistMax><HistCounts>9|9</HistCounts></HistItem></Histograms>
    <Metadata><MDI key="STATISTICS_MAXIMUM">137</MDI><MDI key="STATISTICS_MINIMUM">0</MDI></Metadata>
  </PAMRasterBand>
</PAMDataset>
"""
GRAY = np.add.outer(np.arange(40), 2 * np.arange(50)).astype(np.uint8)  # (40, 50), 0 to 137
RGB = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], -1)


def ingested(path, tmp_path, **settings):
    ingest(path, tmp_path / "raster.tif", **LEVELS | settings)
    return tmp_path / "raster.tif"


def save(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("pixels", "bands"),
    [(GRAY, 1), (GRAY.astype(np.uint16) * 400, 1), (RGB, 3)],
    ids=["gray8", "gray16", "rgb8"],
)
def test_pixels_are_kept_as_they_are(tmp_path, suffix, pixels, bands):
    path = ingested(save(tmp_path / f"a{suffix}", pixels), tmp_path)
    with rasterio.open(path) as raster:
        found = np.moveaxis(raster.read(), 0, -1).squeeze()
        assert raster.count == bands
        assert raster.profile["tiled"]
        assert raster.profile["compress"] == "deflate"
        assert raster.block_shapes[0] == (256, 256)
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype


def test_16_bit_colour_png_keeps_its_depth(tmp_path):
    deep = np.moveaxis(RGB.astype(np.uint16) * 300, -1, 0)
    with rasterio.open(
        tmp_path / "a.png", "w", driver="PNG", width=50, height=40, count=3, dtype="uint16"
    ) as f:
        f.write(deep)
    with rasterio.open(ingested(tmp_path / "a.png", tmp_path)) as raster:
        np.testing.assert_array_equal(raster.read(), deep)


def test_transparency_is_no_specimen(tmp_path):
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:10] = 0
    path = ingested(save(tmp_path / "a.png", np.dstack([RGB, alpha])), tmp_path)
    with open_raster(path) as raster:
        assert not raster.valid()[:10].any()
        assert raster.valid()[10:].all()
        assert raster.rgb8().shape == (40, 50, 3)
        assert not raster.rgb8()[:10].any()


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    with open_raster(ingested(tmp_path / "a.jpg", tmp_path)) as raster:
        seen = raster.rgb8().astype(int)
    wanted = RGB.astype(int) * 255 // RGB.max()
    assert np.abs(seen - wanted).mean() < 6


def test_a_jpeg_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif, quality=98)
    with open_raster(ingested(tmp_path / "a.jpg", tmp_path)) as raster:
        assert (raster.height, raster.width) == (50, 40)
        assert np.abs(raster.band().astype(int) - np.rot90(GRAY, -1)).mean() < 6


def test_a_palette_becomes_its_colours(tmp_path):
    Image.fromarray(RGB).quantize(16).save(tmp_path / "a.png")
    with rasterio.open(ingested(tmp_path / "a.png", tmp_path)) as raster:
        assert raster.count == 3


@pytest.mark.filterwarnings("error::RuntimeWarning")  # of numbers too large for what is done
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_pixels_are_no_specimen_and_told(tmp_path, value):
    field = GRAY.astype(np.float32)
    field[3, 4] = value
    with pytest.warns(PoresegWarning, match=r"1 pixels \(0\.05 %\) are NaN"):
        path = ingested(save(tmp_path / "a.tif", field), tmp_path)
    with open_raster(path) as raster:
        assert (~raster.valid()).sum() == 1
        assert raster.rgb8().max() == 255


def test_a_folder_in_place_of_an_image_is_told(tmp_path):
    with pytest.raises(PoresegError, match=r"a folder; name its images, all of them as .*\*"):
        ingested(tmp_path, tmp_path)


def test_georeference_and_pixel_size_are_kept(tmp_path):
    transform = Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=50, height=40, count=1, dtype="uint8",
        crs="EPSG:32633", transform=transform, nodata=0,
    ) as file:  # fmt: skip
        file.write(GRAY, 1)
    with open_raster(ingested(tmp_path / "a.tif", tmp_path)) as raster:
        assert raster.crs.to_epsg() == 32633
        assert raster.transform == transform
        assert raster.pixel_size_um == pytest.approx(5e5)
        assert (~raster.valid()).sum() == (GRAY == 0).sum()


def test_further_pages_are_left_out_aloud(tmp_path):
    pages = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(PoresegWarning, match="2 planes"):
        path = ingested(tmp_path / "a.tif", tmp_path)
    with open_raster(path) as raster:
        np.testing.assert_array_equal(raster.band(), GRAY)
        assert Grid.of(raster).planes == 2  # so that a label of the other one is not taken for its


def test_an_unknown_pixel_size_is_not_guessed(tmp_path):
    path = save(tmp_path / "a.tif", GRAY, dpi=(300, 300))
    with open_raster(ingested(path, tmp_path)) as raster:
        assert raster.pixel_size_um is None
        assert raster.planes == 1


def test_windows_see_what_the_whole_sees(tmp_path):
    with open_raster(ingested(save(tmp_path / "a.png", RGB), tmp_path)) as raster:
        window = Window(5, 7, 20, 30)
        np.testing.assert_array_equal(raster.rgb8(window), raster.rgb8()[window.slices])


def test_what_lies_beside_an_image_belongs_to_it(tmp_path):
    names = ["a.tif", "a.tfw", "a.TFW", "a.tif.aux.xml", "a.tif.msk", "a.tif.txt", "ab.tfw"]
    for name in names:
        (tmp_path / name).write_text(name)
    assert [path.name for path in companions(tmp_path / "a.tif")] == [
        "a.TFW",
        "a.tfw",
        "a.tif.aux.xml",
        "a.tif.msk",
    ]
    before = fingerprint([tmp_path / "a.tif"])
    (tmp_path / "a.tif.aux.xml").write_text("other")
    assert fingerprint([tmp_path / "a.tif"]) != before


def test_what_gdal_has_counted_in_an_image_is_no_part_of_it(tmp_path):
    """As QGIS leaves it behind when it shows an image; what lies beside and is part of it counts."""
    path = save(tmp_path / "a.png", GRAY)
    before = fingerprint([path])
    (tmp_path / "a.png.aux.xml").write_text(STATISTICS)
    assert companions(path) == []
    assert fingerprint([path]) == before
    with rasterio.open(path, "r+") as file:
        file.crs = "EPSG:32633"
    assert [beside.name for beside in companions(path)] == ["a.png.aux.xml"]


def test_every_nth_pixel_is_the_same_by_strips(tmp_path, monkeypatch):
    monkeypatch.setattr("poreseg.images.raster.STRIP_PX", 1)  # strips of one block
    pixels = np.random.default_rng(0).integers(0, 255, (600, 90), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_raster(ingested(tmp_path / "a.png", tmp_path)) as raster:
        for step in (1, 7, 600):
            np.testing.assert_array_equal(raster.thinned(raster.band, step), pixels[::step, ::step])


def test_levels_do_not_depend_on_bit_depth(tmp_path):
    seen = []
    for factor, dtype in [(1, np.uint8), (256, np.uint16), (0.01, np.float32)]:
        path = save(tmp_path / "a.tif", (GRAY.astype(np.float64) * factor).astype(dtype))
        with open_raster(ingested(path, tmp_path, low_percentile=1, high_percentile=99)) as raster:
            seen.append(raster.rgb8().astype(int))
    assert np.abs(seen[0] - seen[1]).max() <= 1
    assert np.abs(seen[0] - seen[2]).max() <= 1


@pytest.mark.parametrize(
    ("offset", "factor", "dtype"), [(10**9, 1, np.int32), (10**6, 1 / 255, np.float64)]
)
def test_near_levels_of_large_numbers_stay_apart(tmp_path, offset, factor, dtype):
    levels = np.arange(256).reshape(16, 16)
    np.save(tmp_path / "a.npy", (offset + levels * factor).astype(dtype))
    how = {"low_percentile": 0, "high_percentile": 100}
    with open_raster(ingested(tmp_path / "a.npy", tmp_path, **how)) as raster:
        assert len(np.unique(raster.rgb8())) > 250


def _truncated(path):
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _five_bands(path):
    np.save(path, np.arange(100, dtype=np.uint8).reshape(5, 4, 5))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.png", _truncated, "cannot be read as an image, it is truncated"),
        ("a.jpg", _truncated, "cannot be read as an image, it is truncated"),
        ("a.tif", _truncated, "cannot be read as an image, it is truncated"),
        ("a.tif", lambda p: p.write_text("no image"), "cannot be read as an image"),
        ("a.jpg", lambda p: p.write_bytes(b""), "cannot be read as an image"),
        ("a.png", lambda p: None, "cannot be read as an image"),
        ("a.png", lambda p: save(p, np.zeros_like(GRAY)), r"all pixels have one value \(0\)"),
        ("a.tif", lambda p: save(p, np.full((4, 5), np.nan, np.float32)), "no valid pixel"),
        ("a.npy", _five_bands, r"shape \(5, 4, 5\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::poreseg.errors.PoresegWarning")
def test_a_bad_image_is_one_line_that_names_it_and_leaves_nothing(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(PoresegError, match=message) as error:
        ingested(tmp_path / name, tmp_path)
    assert name in str(error.value)
    assert not [p for p in tmp_path.iterdir() if p.name != name]
