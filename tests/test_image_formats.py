"""Every layout of image gives the same pixels; scale, data bar and borders are found."""

import tracemalloc
import warnings

import formats
import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from conftest import warnings_of
from PIL import ExifTags, Image, ImageDraw, ImageFont
from scipy import ndimage

from poreseg.errors import PoresegError, PoresegWarning
from poreseg.images import scale
from poreseg.images.frame import SIDE, overview
from poreseg.images.ingest import ingest
from poreseg.images.raster import open_raster
from poreseg.images.registry import open_image
from poreseg.images.source import STRIP_BYTES, Choice

GRAY = (np.add.outer(5 * np.arange(37), 2 * np.arange(53)) % 251).astype(np.uint8)  # (37, 53)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], -1)
DEEP = GRAY.astype(np.uint16) * 257
READING = {"low_percentile": 0.5, "high_percentile": 99.5, "data_bar": "auto", "border": "auto"}
PLANES = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1], 255 - GRAY, GRAY[::-1, ::-1], GRAY // 2])


def bands(path, choice=Choice()):  # noqa: B008
    with open_image(path, choice) as source:
        strips = [picture.bands for _, picture in source.strips()]
        assert source.count == len(strips[0])
        return np.concatenate(strips, axis=1).squeeze()


def first(pixels):
    """As rasterio has them: bands first."""
    return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels


LAYOUTS = {
    "8 bit": ("a.tif", formats.tiff(GRAY), GRAY),
    "16 bit": ("a.tif", formats.tiff(DEEP), DEEP),
    "32 bit": ("a.tif", formats.tiff(GRAY.astype(np.uint32) * 70000), GRAY.astype(np.uint32) * 70000),
    "float": ("a.tif", formats.tiff(GRAY.astype(np.float32) / 7), GRAY.astype(np.float32) / 7),
    "double": ("a.tif", formats.tiff(GRAY.astype(np.float64) / 7), GRAY.astype(np.float64) / 7),
    "signed": ("a.tif", formats.tiff(GRAY.astype(np.int16) - 100), GRAY.astype(np.int16) - 100),
    "interleaved": ("a.tif", formats.tiff(RGB, photometric="rgb"), first(RGB)),
    "planar": ("a.tif", formats.tiff(first(RGB), photometric="rgb", planarconfig="separate"), first(RGB)),
    "striped": ("a.tif", formats.tiff(RGB, photometric="rgb", rowsperstrip=5), first(RGB)),
    "tiled": ("a.tif", formats.tiff(RGB, photometric="rgb", tile=(16, 32)), first(RGB)),
    "big endian": ("a.tif", formats.tiff(DEEP, byteorder=">"), DEEP),
    "bigtiff": ("a.tif", formats.tiff(DEEP, bigtiff=True), DEEP),
    "bigtiff, .btf": ("a.btf", formats.tiff(DEEP, bigtiff=True), DEEP),
    **{name: ("a.tif", formats.gdal("GTiff", first(RGB), compress=name, photometric="rgb"), first(RGB))
       for name in ("lzw", "deflate", "zstd", "packbits")},
    "lzw with predictor": ("a.tif", formats.gdal("GTiff", DEEP, compress="lzw", predictor=2), DEEP),
    "white is zero": ("a.tif", formats.tiff(255 - GRAY, photometric="miniswhite"), GRAY),
    "with an overview": ("a.tif", formats.gdal("COG", np.tile(GRAY, (20, 20)), overview_resampling="nearest"), np.tile(GRAY, (20, 20))),
    "ome-tiff": ("a.ome.tif", formats.tiff(GRAY, metadata={"axes": "YX"}), GRAY),
    "ome-tiff in colour": ("a.ome.tif", formats.tiff(RGB, photometric="rgb", metadata={"axes": "YXS"}), first(RGB)),
    "imagej": ("a.tif", formats.tiff(DEEP, imagej=True), DEEP),
    "png 8 bit": ("a.png", formats.picture(GRAY), GRAY),
    "png 16 bit": ("a.png", formats.picture(DEEP), DEEP),
    "png 16 bit in colour": ("a.png", formats.gdal("PNG", first(RGB).astype(np.uint16) * 257), first(RGB).astype(np.uint16) * 257),
    "png 1 bit": ("a.png", formats.picture(GRAY > 100), (GRAY > 100).astype(np.uint8)),
    "bmp": ("a.bmp", formats.picture(RGB), first(RGB)),
    "webp": ("a.webp", formats.picture(RGB, lossless=True), first(RGB)),
    "jpeg 2000": ("a.jp2", formats.gdal("JP2OpenJPEG", first(RGB), QUALITY=100, REVERSIBLE="YES", YCC="NO"), first(RGB)),
    "npy": ("a.npy", lambda p: np.save(p, DEEP), DEEP),
    "npy, bands last": ("a.npy", lambda p: np.save(p, RGB), first(RGB)),
    "npy, bands first": ("a.npy", lambda p: np.save(p, first(RGB)), first(RGB)),
    "czi gray": ("a.czi", formats.czi_file(DEEP), DEEP),
    "czi in colour": ("a.czi", formats.czi_file(RGB), first(RGB)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "write", "wanted"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_pixels(tmp_path, name, write, wanted):
    write(tmp_path / name)
    found = bands(tmp_path / name)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize("name", ["a.jpg", "jpeg.tif"])
def test_lossy_formats_are_close(tmp_path, name):
    rows, cols = np.mgrid[:64, :80]
    smooth = np.stack([rows * 3, cols * 3, 255 - rows - cols], -1).astype(np.uint8)
    if name == "a.jpg":
        Image.fromarray(smooth).save(tmp_path / name, quality=97)
    else:
        formats.gdal("GTiff", first(smooth), compress="jpeg", photometric="ycbcr", tiled=True,
                     blockxsize=16, blockysize=16)(tmp_path / name)  # fmt: skip
    assert np.abs(bands(tmp_path / name).astype(int) - first(smooth)).mean() < 3


STACKS = {
    "ZYX": ((6, 37, 53), "page 2", 2, None, 1),
    "TZYX": ((2, 3, 37, 53), "T 2 x Z 3", 5, None, 4),
    "CYX": ((6, 37, 53), "channels", None, (3,), 2),
    "ZCYX": ((2, 3, 37, 53), "channels", 2, (1,), 3),
    "CZYX": ((3, 2, 37, 53), "channels", 2, (3,), 5),
}


@pytest.mark.parametrize(
    ("axes", "kind"),
    [(axes, "ome") for axes in STACKS] + [(axes, "imagej") for axes in STACKS if axes != "CZYX"],
)  # ImageJ writes its axes in one order, TZCYX
def test_plane_and_channel_are_chosen_in_any_order_of_axes(tmp_path, axes, kind):
    shape, _, plane, channels, index = STACKS[axes]
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(path, PLANES.reshape(shape), imagej=kind == "imagej", metadata={"axes": axes},
                     **({} if kind == "imagej" else {"photometric": "minisblack"}))  # fmt: skip
    np.testing.assert_array_equal(bands(path, Choice(channels, plane)), PLANES[index])
    with pytest.warns(
        PoresegWarning, match=r"reading 1\. Name others as (plane|channel) in samples\.csv"
    ):
        np.testing.assert_array_equal(bands(path), PLANES[0])


def test_pages_of_a_plain_stack_and_of_several_sizes_are_chosen(tmp_path):
    pages = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(bands(tmp_path / "a.tif", Choice(plane=2)), GRAY[::-1])
    pages.append(Image.fromarray(GRAY[:9]))
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(bands(tmp_path / "b.tif", Choice(plane=3)), GRAY[:9])


def test_channels_may_be_put_together(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", PLANES, photometric="minisblack", metadata={"axes": "CYX"}
    )
    np.testing.assert_array_equal(
        bands(tmp_path / "a.ome.tif", Choice((4, 1, 2))), PLANES[[3, 0, 1]]
    )


def test_bands_of_a_geotiff_are_chosen(tmp_path):
    formats.gdal("GTiff", PLANES)(tmp_path / "a.tif")
    np.testing.assert_array_equal(bands(tmp_path / "a.tif", Choice((6,))), PLANES[5])
    with pytest.warns(PoresegWarning, match="6 bands; reading 1 2 3"):
        np.testing.assert_array_equal(bands(tmp_path / "a.tif"), PLANES[:3])
    with pytest.raises(PoresegError, match="channel is 7; wanted 1 to 6, its bands"):
        bands(tmp_path / "a.tif", Choice((7,)))


def test_planes_and_channels_of_a_czi_are_chosen(tmp_path):
    formats.czi_file(GRAY, planes=[{"C": c, "Z": z} for c in range(2) for z in range(3)])(
        tmp_path / "a.czi"
    )
    with pytest.warns(PoresegWarning) as told:
        np.testing.assert_array_equal(bands(tmp_path / "a.czi"), GRAY)
    assert {"2 channels; reading 1", "3 planes (T 1 x Z 3); reading 1"} == {
        str(w.message).split(": ", 1)[1].split(". ")[0] for w in told
    }
    np.testing.assert_array_equal(bands(tmp_path / "a.czi", Choice((2,), 3)), GRAY)


def test_cmyk_tiff_is_shown_as_light(tmp_path):
    ink = np.zeros((37, 53, 4), np.uint8)
    ink[..., 3] = 255 - GRAY  # black ink alone
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated")
    np.testing.assert_array_equal(bands(tmp_path / "a.tif"), np.stack([GRAY] * 3))


def test_lab_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="cielab")
    with pytest.raises(PoresegError, match=r"colours are L\*a\*b\*; save the image as RGB"):
        bands(tmp_path / "a.tif")


def test_a_large_image_is_looked_at_without_being_held(tmp_path):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=20_000, height=20_000, count=1,
                       dtype="uint8", tiled=True, sparse_ok=True):  # fmt: skip
        pass
    with open_image(tmp_path / "a.tif") as source:
        tracemalloc.start()
        view = overview(source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert view.bands.shape == (1, 2000, 2000)
    assert peak < 5 * STRIP_BYTES  # of 400 MB


# --- scale ------------------------------------------------------------------------------


def sized(path):
    with open_image(path) as source:
        return source.scales


def _sem(tag, text):
    return {"extratags": [(tag, "s", 0, text, True)]}


FEI = "[User]\r\nDate=01/01/2024\r\n[System]\r\nType=Scios\r\n[Scan]\r\nPixelWidth=2.5e-009\r\nPixelHeight=2.5e-009\r\n[Image]\r\nResolutionX=53\r\nResolutionY=30\r\n[PrivateFei]\r\nDatabarHeight=7\r\n"
ZEISS = (
    "\r\n0\r\n0\r\n0\r\n"
    + "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 29.31 nm\r\nAP_PIXEL_SIZE\r\nPixel Size = 5 nm\r\n"
)
SCALES = {
    "ome, micrometres by default": ("a.ome.tif", formats.tiff(GRAY, metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}), {"OME-XML": 0.25}),
    "ome, nanometres": ("a.ome.tif", formats.tiff(GRAY, metadata={"axes": "YX", "PhysicalSizeX": 40, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 40, "PhysicalSizeYUnit": "nm"}), {"OME-XML": 0.04}),
    "imagej": ("a.tif", formats.tiff(GRAY, imagej=True, resolution=(4, 4), metadata={"unit": "um"}), {"ImageJ metadata": 0.25}),
    "imagej, escaped unit": ("a.tif", formats.tiff(GRAY, imagej=True, resolution=(4, 4), metadata={"unit": "\\u00B5m"}), {"ImageJ metadata": 0.25}),
    "imagej, unit spelled out": ("a.tif", formats.tiff(GRAY, imagej=True, resolution=(4, 4), metadata={"unit": "Micrometres"}), {"ImageJ metadata": 0.25}),
    "imagej, no scale": ("a.tif", formats.tiff(GRAY, imagej=True, metadata={"unit": "pixel"}), {}),
    "resolution in cm": ("a.tif", formats.tiff(GRAY, resolution=(20000, 20000), resolutionunit="CENTIMETER"), {"resolution tag": 0.5}),
    "resolution of a screen": ("a.tif", formats.tiff(GRAY, resolution=(72, 72), resolutionunit="INCH"), {}),
    "fei": ("a.tif", formats.tiff(GRAY, **_sem(34682, FEI)), {"FEI SEM tag": 0.0025}),
    "zeiss": ("a.tif", formats.tiff(GRAY, **_sem(34118, ZEISS)), {"ZEISS SEM tag": 0.02931}),
    "czi": ("a.czi", formats.czi_file(GRAY, scale=1.2e-7), {"CZI metadata": 0.12}),
    "czi, no scale": ("a.czi", formats.czi_file(GRAY), {}),
    "map": ("a.tif", formats.gdal("GTiff", GRAY, crs=formats.UTM, transform=formats.PLACE), {"georeference": 5e5}),
    "map, jpeg 2000": ("a.jp2", formats.gdal("JP2OpenJPEG", GRAY, crs=formats.UTM, transform=formats.PLACE), {"georeference": 5e5}),
    "map, no place on it": ("a.tif", formats.gdal("GTiff", GRAY, crs=formats.UTM), {}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "write", "wanted"), SCALES.values(), ids=SCALES)
def test_pixel_size_is_read_from_what_the_file_says(tmp_path, name, write, wanted):
    write(tmp_path / name)
    assert sized(tmp_path / name) == pytest.approx(wanted)


@pytest.mark.parametrize(("orientation", "there"), [(1, True), (6, False)])
def test_a_world_file_tells_the_place_of_a_jpeg_that_is_not_turned(tmp_path, orientation, there):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.jgw").write_text("0.5\n0\n0\n-0.5\n1000.25\n1999.75\n")
    with open_image(tmp_path / "a.jpg", Choice()) as source:
        assert (source.transform == Affine(0.5, 0, 1000, 0, -0.5, 2000)) == there
        assert source.transform.is_identity != there


def test_a_photo_that_is_turned_is_told(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=exif)
    with pytest.warns(
        PoresegWarning, match=r"a\.jpg: turned or mirrored by its EXIF orientation \(6\)"
    ):
        assert bands(tmp_path / "a.jpg").shape == GRAY.T.shape


def test_a_tiff_under_the_name_of_a_photo_is_told(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "a.jpg", format="TIFF")
    with pytest.raises(PoresegError, match=r"a\.jpg: is a TIFF of more than 8 bits; rename it"):
        bands(tmp_path / "a.jpg")


def test_what_the_file_hides_is_told(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png", transparency=0)
    with pytest.warns(
        PoresegWarning,
        match=rf"{(GRAY == 0).sum()} pixels \({100 * (GRAY == 0).mean():.3g} %\) are NaN, transparent",
    ):
        valid, _ = valid_after(tmp_path / "a.png", tmp_path)
    np.testing.assert_array_equal(valid, GRAY > 0)


@pytest.mark.parametrize(
    ("unit", "size"),
    [("m", 1e6), ("metre", 1e6), ("Millimeters", 1e3), ("nanometer", 1e-3), ("microns", 1.0), ("s", None),
     ("meters per second", None), ("", None)],
)  # fmt: skip
def test_units_are_known_short_and_spelled_out(unit, size):
    assert scale.micrometres(1, unit) == size


def test_a_unit_that_is_not_known_is_told(tmp_path):
    formats.tiff(GRAY, imagej=True, resolution=(4, 4), metadata={"unit": "furlong"})(
        tmp_path / "a.tif"
    )
    with pytest.warns(
        PoresegWarning, match=r"a\.tif: ImageJ's unit is 'furlong'.* sizes are in px"
    ):
        assert sized(tmp_path / "a.tif") == {}


@pytest.mark.parametrize(
    ("per_unit", "unit"), [(1, "mm"), (1, "cm"), (28, "cm"), (38, "cm"), (118, "cm")]
)
def test_placeholders_of_a_resolution_are_no_scale(per_unit, unit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoresegWarning)
        assert scale.from_resolution(per_unit, per_unit, unit, "a.tif") == {}


def test_a_print_resolution_is_no_scale_but_told(tmp_path):
    formats.tiff(GRAY, resolution=(300, 300), resolutionunit="INCH")(tmp_path / "a.tif")
    with pytest.warns(
        PoresegWarning, match=r"300 dpi is taken for a print size; .* pixel_size_um is 84\.67"
    ):
        assert sized(tmp_path / "a.tif") == {}


def test_pixels_that_are_not_square_have_no_one_size(tmp_path):
    formats.tiff(GRAY, metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5})(
        tmp_path / "a.ome.tif"
    )
    with pytest.warns(
        PoresegWarning, match=r"a\.ome\.tif: pixels are 0\.25 by 0\.5 um in its OME-XML, not square"
    ):
        assert sized(tmp_path / "a.ome.tif") == {}


# --- frame ------------------------------------------------------------------------------


def specimen(height, width, seed=0):
    """A noisy gray surface with dark pores, 8 bit."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    surface = (
        120
        + 30 * np.sin(rows / 17)
        + 30 * np.cos(cols / 23)
        + random.normal(0, 12, (height, width))
    )
    for row, col in random.integers(0, (height, width), (12, 2)):
        surface[np.hypot(rows - row, cols - col) < 15] -= 90
    return np.clip(surface, 1, 250).astype(np.uint8)


def bar(width, height, ground=0, text=255, seed=0):
    """A data bar: a flat ground with a frame line, and words that are rows of strokes."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width), ground, np.uint8)
    pixels[0] = text
    for start in range(10, width - 60, 70):
        word = random.random((height // 3, 40)) < 0.4
        pixels[height // 3 : height // 3 + len(word), start : start + 40][word] = text
    return pixels


def valid_after(path, tmp_path, **more):
    ingest(path, tmp_path / "r.tif", **READING | more)
    with open_raster(tmp_path / "r.tif") as raster:
        return raster.valid(), raster.tags


@pytest.mark.parametrize("ground", [0, 255, 90])
@pytest.mark.parametrize("name", ["a.tif", "a.jpg", "a.png"])
@pytest.mark.parametrize(("height", "rows"), [(480, 32), (768, 70), (1200, 60)])
def test_a_data_bar_is_seen_in_the_pixels(tmp_path, name, ground, height, rows):
    width = height * 4 // 3
    pixels = np.vstack([specimen(height, width), bar(width, rows, ground, 255 - ground)])
    options = {"quality": 90} if name == "a.jpg" else {}
    Image.fromarray(pixels).save(tmp_path / name, **options)
    valid, tags = valid_after(tmp_path / name, tmp_path)
    assert not valid[height + 1 :].any()  # the frame line is as good as lost in JPEG
    assert valid[: height - 2].all()
    assert f"data bar of {rows}" in tags["FRAME"] or abs(int(tags["FRAME"].split()[3]) - rows) <= 2


@pytest.mark.parametrize("size", [10, 14, 24])
@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
@pytest.mark.parametrize("ground", [0, 255])
def test_a_data_bar_with_letters_of_soft_edges_is_seen(tmp_path, size, name, ground):
    below = Image.new("L", (640, 48), ground)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(below).text((8, 10), "5.00 kV   x 10.0k   SE(U)   5.00 um", 255 - ground, font)
    pixels = np.vstack([specimen(480, 640), np.asarray(below)])
    Image.fromarray(pixels).save(tmp_path / name, **({"quality": 90} if name == "a.jpg" else {}))
    valid, tags = valid_after(tmp_path / name, tmp_path)
    assert "(seen in the pixels)" in tags["FRAME"]
    assert not valid[481:].any()
    assert valid[:478].all()


@pytest.mark.parametrize("ground", [0, 255, 90])
@pytest.mark.parametrize("block", [slice(2, 44), slice(420, 630)])
def test_a_data_bar_with_a_block_in_it_is_seen(tmp_path, ground, block):
    """As a maker's logo, or a field that is inverted."""
    below = bar(640, 44, ground, 255 - ground)
    below[2:42, block] = 255 - ground
    Image.fromarray(np.vstack([specimen(480, 640), below])).save(tmp_path / "a.tif")
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert tags["FRAME"] == "data bar of 44 rows (seen in the pixels)"
    assert valid[:480].all()


def test_a_data_bar_with_a_frame_all_around_and_black_pores_above_is_seen(tmp_path):
    surface = specimen(480, 640)
    surface[surface < 70] = 0
    below = bar(640, 44)
    below[-2:] = below[:, :2] = below[:, -2:] = 255
    Image.fromarray(np.vstack([surface, below])).save(tmp_path / "a.tif")
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert valid[:480].all()
    assert not valid[480:].any()
    assert tags["FRAME"] == "data bar of 44 rows (seen in the pixels)"


def _blob(pixels, value, wide, high, noise=0.0):
    """A dark half ellipse at the lower edge."""
    height, width = pixels.shape
    rows, cols = np.mgrid[:height, :width]
    area = np.hypot((cols - width / 2) / (wide * width / 2), (height - rows) / (high * height)) < 1
    dark = value + np.random.default_rng(0).normal(0, noise, pixels.shape)
    return np.where(area, np.clip(dark, 0, 255).astype(np.uint8), pixels)


def _grains(seed):
    """Grains that lie loose in black below a straight edge."""
    random = np.random.default_rng(seed)
    height = int(random.integers(15, 120))
    field = ndimage.gaussian_filter(random.normal(size=(height, 600)), 5)
    loose = np.where(field > np.quantile(field, 0.7), specimen(height, 600, seed), 0)
    return np.vstack([specimen(500, 600, seed), loose]).astype(np.uint8)


def _bubbles(seed, porosity, value):
    """Saturated pores of a smooth random field."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(500, 600)), 20)
    surface = specimen(500, 600, seed)
    surface[field > np.quantile(field, 1 - porosity)] = value
    return surface


NO_FRAME = {
    "plain": lambda: specimen(300, 400),
    "rectangular pore": lambda: np.where(np.add.outer(np.arange(300) >= 200, np.arange(400) < 170) > 1, 0, specimen(300, 400)).astype(np.uint8),
    **{f"pore at the lower edge, {wide} wide, {high} high, noise {noise}": lambda w=wide, h=high, n=noise: _blob(specimen(600, 800), 0 if not n else 3, w, h, n)
       for wide, high in ((0.5, 0.1), (0.7, 0.12), (0.95, 0.2), (1.6, 0.1)) for noise in (0.0, 1.5)
       if wide < 1 or noise},
    **{f"pores of {value}, {porosity}, seed {seed}": lambda s=seed, p=porosity, v=value: _bubbles(s, p, v)
       for seed in range(6) for porosity in (0.25, 0.45) for value in (0, 255)},
    **{f"loose grains, seed {seed}": lambda s=seed: _grains(s) for seed in range(12)},
    "bright pores on black": lambda: np.where(ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(300, 400)), 9) > 0.03, specimen(300, 400), 0).astype(np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("draw", NO_FRAME.values(), ids=NO_FRAME)
def test_no_frame_is_seen_where_there_is_none(tmp_path, draw):
    Image.fromarray(draw()).save(tmp_path / "a.png")
    valid, tags = valid_after(tmp_path / "a.png", tmp_path)
    assert tags.get("FRAME") is None
    assert valid.all()


def test_the_maker_s_metadata_say_where_the_data_bar_is(tmp_path):
    formats.tiff(GRAY, **_sem(34682, FEI))(tmp_path / "a.tif")
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert valid[:30].all()
    assert not valid[30:].any()
    assert tags["FRAME"] == "data bar of 7 rows (maker's metadata)"
    assert valid_after(tmp_path / "a.tif", tmp_path, data_bar="none")[0].all()
    assert valid_after(tmp_path / "a.tif", tmp_path, data_bar_px=0)[0].all()
    assert not valid_after(tmp_path / "a.tif", tmp_path, data_bar_px=12)[0][25:].any()


def test_a_data_bar_of_no_rows_beside_rows_that_were_not_scanned_is_one(tmp_path):
    fei = FEI.replace("DatabarHeight=7", "DatabarHeight=0")
    formats.tiff(GRAY, **_sem(34682, fei))(tmp_path / "a.tif")
    assert valid_after(tmp_path / "a.tif", tmp_path)[1]["FRAME"] == "data bar of 7 rows (maker's metadata)"  # fmt: skip


def test_a_data_bar_that_leaves_no_row_to_look_at_is_told(tmp_path):
    side = SIDE + 1  # every other row is looked at
    image = np.broadcast_to(np.arange(side, dtype=np.uint16), (side, side))
    Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / "a.png")
    with pytest.raises(
        PoresegError, match=rf"data_bar_px is {side - 1}, which leaves none of {side} rows"
    ):
        valid_after(tmp_path / "a.png", tmp_path, data_bar_px=side - 1)


def test_a_uniform_border_is_no_specimen(tmp_path):
    pixels = np.pad(specimen(200, 260), ((11, 4), (0, 7)), constant_values=0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    valid, tags = valid_after(tmp_path / "a.png", tmp_path)
    wanted = np.zeros(pixels.shape, bool)
    wanted[11:-4, :-7] = True
    np.testing.assert_array_equal(valid, wanted)
    assert tags["FRAME"] == "border of 11 px top, 4 px bottom, 7 px right"
    assert valid_after(tmp_path / "a.png", tmp_path, border="none")[0].all()


@pytest.mark.parametrize("side", [300, 2500])
def test_what_is_outside_a_round_field_of_view_is_no_specimen_but_an_open_pore_is(tmp_path, side):
    pixels = specimen(side, side)
    rows, cols = np.mgrid[:side, :side] - side / 2 + 0.5
    inside = np.hypot(rows, cols) < 0.48 * side
    pixels[~inside] = 0
    middle = slice(side // 2 - side // 200, side // 2 + side // 200)
    pixels[middle, : side // 4] = 0  # a crack that is open to the outside
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert "outside the field of view" in tags["FRAME"]
    assert (valid != inside).mean() < 0.002
    assert valid[middle, side // 10 : side // 4].all()


@pytest.mark.parametrize("soft", [0, 1, 3, 8])
@pytest.mark.parametrize("invert", [False, True])
def test_the_soft_edge_of_a_field_of_view_is_no_specimen(tmp_path, soft, invert):
    """Of a microscope's camera whose black is cut off; at 8 px it takes 80 px from black to all its light."""
    rows, cols = np.mgrid[:600, :800] - np.array([300, 400])[:, None, None]
    away = np.hypot(rows, cols)
    light = (away < 270) if not soft else 1 / (1 + np.exp(np.clip((away - 270) / soft, -40, 40)))
    pixels = (specimen(600, 800) * light).astype(np.uint8)
    Image.fromarray(255 - pixels if invert else pixels).save(tmp_path / "a.png")
    valid, tags = valid_after(tmp_path / "a.png", tmp_path)
    assert "outside the field of view" in tags["FRAME"]
    ring = 2 * np.pi * 270  # px: its radius is right to within its softness
    assert (valid != (away < 270)).sum() < ring * (1 + soft)
    assert (~valid[away < 268 - 2 * soft]).mean() < 0.001  # where it is dark, its edge seems nearer


@pytest.mark.parametrize("width", [10, 32])
def test_pores_along_the_sharp_edge_of_a_field_of_view_are_specimen(tmp_path, width):
    rows, cols = np.mgrid[:400, :400] - 199.5
    inside = np.hypot(rows, cols) < 192
    for seed in range(8):  # in some most of the edge is pore
        draw = np.random.default_rng(seed)
        field = ndimage.gaussian_filter(draw.normal(size=(400, 400)), width)
        pixels = np.where(field > np.median(field), 12, 180) + draw.normal(0, 4, (400, 400))
        Image.fromarray(np.where(inside, np.clip(pixels, 1, 255), 0).astype(np.uint8)).save(tmp_path / "a.png")  # fmt: skip
        valid, _ = valid_after(tmp_path / "a.png", tmp_path)
        np.testing.assert_array_equal(valid, inside)


@pytest.mark.parametrize("share", [0.66, 0.7])
def test_a_field_of_view_that_is_small_in_its_image_is_found_within_a_border(tmp_path, share):
    """What is outside it is more than may be left out as such, and at 0.7 a border is none of it."""
    rows, cols = np.mgrid[:400, :400] - 199.5
    inside = np.hypot(rows, cols) < share * 200
    Image.fromarray(np.where(inside, specimen(400, 400), 0).astype(np.uint8)).save(tmp_path / "a.tif")  # fmt: skip
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert "border of" in tags["FRAME"]
    assert "outside the field of view" in tags["FRAME"]
    assert (valid != inside).mean() < 0.002


def test_one_value_around_a_specimen_that_is_not_left_out_is_told_of(tmp_path):
    rows, cols = np.mgrid[:400, :400] - 199.5
    away, angle = np.hypot(rows, cols), np.arctan2(rows, cols)
    chip = away < 160 * (1 + 0.18 * np.sin(3 * angle) + 0.08 * np.sin(7 * angle + 1))
    for inside in (chip, away < 100):
        Image.fromarray(np.where(inside, specimen(400, 400), 0).astype(np.uint8)).save(tmp_path / "a.png")  # fmt: skip
        with pytest.warns(
            PoresegWarning, match="is one value that reaches three corners, and counts as specimen"
        ):
            valid, _ = valid_after(tmp_path / "a.png", tmp_path)
        assert np.count_nonzero(valid & ~inside) > 0.1 * valid.size


def test_what_the_file_leaves_out_and_a_matrix_cut_off_at_white_are_no_such_value(tmp_path):
    rows, cols = np.mgrid[:400, :400] - 199.5
    chip = np.hypot(rows, cols) < 160 * (1 + 0.18 * np.sin(3 * np.arctan2(rows, cols)))
    profile = {"driver": "GTiff", "height": 400, "width": 400, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", nodata=0, **profile) as file:
        file.write(np.where(chip, np.maximum(specimen(400, 400), 1), 0).astype(np.uint8), 1)
    overexposed = np.where(_bubbles(0, 0.15, 60) == 60, 60, 255).astype(np.uint8)
    Image.fromarray(overexposed).save(tmp_path / "b.png")
    for name, wanted in (("a.tif", chip), ("b.png", np.ones((500, 600), bool))):
        found = warnings_of(lambda path=tmp_path / name: valid_after(path, tmp_path))
        assert not [text for text in found if "one value that reaches" in text]
        np.testing.assert_array_equal(valid_after(tmp_path / name, tmp_path)[0], wanted)


LONE = {
    "fill of real numbers": (np.float32, 1 / 255, -9999),
    "scale bar on 12 bits": (np.uint16, 16, 65535),
    "fill of a signed CT": (np.int16, 8, -32768),
}


@pytest.mark.parametrize(("dtype", "scale", "lone"), LONE.values(), ids=LONE)
def test_a_value_far_from_all_others_has_no_say_in_the_levels_and_is_told_of(tmp_path, dtype, scale, lone):  # fmt: skip
    pixels = (specimen(300, 400) * scale).astype(dtype)
    marked = np.zeros(pixels.shape, bool)
    marked[250:270, 200:330] = True
    pixels[marked] = lone
    formats.tiff(pixels)(tmp_path / "a.tif")
    with pytest.warns(PoresegWarning, match=rf"2\.17 % of its values are {lone}, the others"):
        ingest(tmp_path / "a.tif", tmp_path / "r.tif", **READING)
    with rasterio.open(tmp_path / "r.tif") as raster:
        levels = float(raster.tags()["LOW"]), float(raster.tags()["HIGH"])
    assert levels == pytest.approx(np.percentile(pixels[~marked], [0.5, 99.5]))


@pytest.mark.parametrize("clipped", [0, 255])
@pytest.mark.parametrize(("dtype", "blur"), [(np.uint8, 0), (np.uint8, 0.7), (np.uint16, 0.7)])
def test_saturated_pores_keep_their_say_in_the_levels(tmp_path, clipped, dtype, blur):
    """In a matrix that is even, and far from them."""
    pixels = np.where(_bubbles(0, 0.25, 255) == 255, 0, 200) + np.random.default_rng(0).normal(0, 5, (500, 600))  # fmt: skip
    pixels = np.clip(ndimage.gaussian_filter(pixels, blur) if blur else pixels, 0, 255)
    pixels = np.where(pixels < 15, 0, pixels)  # cut off at black
    pixels = pixels if clipped == 0 else 255 - pixels
    clipped *= np.iinfo(dtype).max // 255
    Image.fromarray((pixels * (np.iinfo(dtype).max // 255)).astype(dtype)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PoresegWarning)
        ingest(tmp_path / "a.png", tmp_path / "r.tif", **READING)
    with rasterio.open(tmp_path / "r.tif") as raster:
        assert clipped in (float(raster.tags()["LOW"]), float(raster.tags()["HIGH"]))


def core_in_air(side, dtype, noise, air):
    """A bright round core with dark pores, one of them open, in air that is as dark as they are; and where it is."""
    draw = np.random.default_rng(1)
    rows, cols = np.mgrid[:side, :side] - side / 2 + 0.5
    inside = np.hypot(rows, cols) < 0.46 * side
    pixels = np.where(inside, 0.6 + 0.1 * np.sin(rows / 9) * np.sin(cols / 7), air)
    pixels[np.hypot(rows, cols + 0.2 * side) < 0.12 * side] = air  # a pore
    pixels[side // 2 - 1 : side // 2 + 1, side // 2 :] = air  # a crack that is open to the air
    pixels = ndimage.gaussian_filter(pixels, 1) + noise * draw.standard_normal(pixels.shape)
    pixels[2 * (side // 60), 2 * (side // 60)] = 1  # a hot pixel, where an overview looks too
    return (np.clip(pixels, 0, 1) * np.iinfo(dtype).max).astype(dtype), inside


@pytest.mark.parametrize(
    ("side", "dtype", "noise", "air", "beside"),
    [
        (300, np.uint8, 0.02, 0.12, ""), (700, np.uint16, 0.06, 0.12, ""), (2500, np.uint8, 0.04, 0.12, ""),
        (400, np.uint8, 0.03, -0.085, ""),  # cut off at black
        (400, np.uint16, 0.002, 0.12, ""),  # hardly any noise
        (400, np.uint8, 0.03, 0.12, "colour"), (400, np.uint8, 0.03, 0.12, "bar"), (400, np.uint8, 0.03, 0.12, "line"),
        (400, np.uint8, 0.03, 0.12, "wide"), (400, np.uint8, 0.03, 0.12, "round"), (2500, np.uint16, 0.06, 0.12, "round"), (400, np.uint8, 0.03, -0.085, "round"), (400, np.uint8, 0.03, 0.12, "dead pixel"),
    ],
)  # fmt: skip
def test_the_air_around_a_core_is_no_specimen(tmp_path, side, dtype, noise, air, beside):
    pixels, inside = core_in_air(side, dtype, noise, air)
    if beside == "line":
        pixels[:, 0] = 200
    elif beside == "bar":
        pixels, inside = np.vstack([pixels, bar(side, 40)]), np.pad(inside, ((0, 40), (0, 0)))
    elif beside == "colour":
        pixels = np.dstack([pixels // 2, pixels, pixels])
    elif beside == "wide":  # a photo through an eyepiece, higher than wide or wider than high
        air_beside = np.random.default_rng(2).choice(pixels[-20:, :20].ravel(), (2, side, 80))
        pixels, inside = np.hstack([air_beside[0], pixels, air_beside[1]]), np.pad(inside, ((0, 0), (80, 80)))  # fmt: skip
    elif beside == "dead pixel":
        pixels = pixels.astype(np.float32)
        pixels[side // 2 + 9, side // 2 + 9] = np.nan
    elif beside == "round":  # a reconstruction, that knows nothing of what is outside its circle
        rows, cols = np.mgrid[:side, :side] - side / 2 + 0.5
        pixels[np.hypot(rows, cols) > 0.498 * side] = 40 if noise == 0.03 else 0
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    valid, tags = valid_after(tmp_path / "a.tif", tmp_path)
    assert "air around the specimen" in tags["FRAME"]
    within = ndimage.distance_transform_edt(inside) > max(6, 0.006 * side)  # but for its rim
    there = valid_after(tmp_path / "a.tif", tmp_path, border="none", data_bar="none")[0]
    assert np.count_nonzero(~there) == (beside == "dead pixel")
    assert valid[within & there].all()
    assert not valid[~inside].any()


@pytest.mark.parametrize("reach", [1, 0.498])
def test_the_air_around_a_core_is_as_black_as_what_fills_its_pores(tmp_path, reach):
    pixels, inside = core_in_air(400, np.uint8, 0.03, 0.12)
    rows, cols = np.mgrid[:400, :400] - 199.5
    seen = np.hypot(rows, cols) <= reach * 400
    pixels[~seen] = 90  # a reconstruction's circle, if it reaches no farther; this is no air
    Image.fromarray(pixels).save(tmp_path / "a.png")
    valid, tags = valid_after(tmp_path / "a.png", tmp_path)
    levels = float(tags["LOW"]), float(tags["HIGH"])
    assert not valid[~inside].any()
    assert levels == pytest.approx(np.percentile(pixels[seen], [0.5, 99.5]), abs=1)
    assert levels[0] < np.percentile(pixels[valid], 0.5)


@pytest.mark.parametrize("kind", ["pore", "grain", "part"])
def test_what_only_looks_like_air_stays_specimen(tmp_path, kind):
    side = 400
    rows, cols = np.mgrid[:side, :side] / side - 0.5
    away = np.hypot(rows, cols)
    pixels = {
        "pore": np.where(away < 0.44, 0.1, 0.6),  # dark, in a bright matrix
        "grain": np.where(away < 0.36, 0.7, 0.2),  # bright, in a dark matrix
        "part": np.where(rows < 0.1, 0.6, 0.1),  # one side of the picture is dark
    }[kind]
    pixels = pixels + 0.01 * np.random.default_rng(1).standard_normal((side, side))
    Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert valid_after(tmp_path / "a.png", tmp_path)[0].all()


@pytest.mark.parametrize("side", [100, 400])
@pytest.mark.parametrize("depth", [0.3, 0.6])
@pytest.mark.parametrize("power", [2, 4, 6])
@pytest.mark.parametrize("noise", [0.005, 0.03])
@pytest.mark.parametrize("field", ["whole", "round"])
def test_a_vignette_is_no_air(tmp_path, side, depth, power, noise, field):
    rows, cols = np.mgrid[:side, :side] / side - 0.5
    away, reach = np.hypot(rows, cols), 0.49 if field == "round" else np.hypot(0.5, 0.5)
    light = 0.85 - depth * (away / reach) ** power
    pixels = light + noise * np.random.default_rng(1).standard_normal((side, side))
    inside = away < reach + 0.01
    seen = np.where(inside, np.clip(pixels, 0.01, 1), 0)
    Image.fromarray((seen * 255).astype(np.uint8)).save(tmp_path / "a.png")
    valid, tags = valid_after(tmp_path / "a.png", tmp_path)
    assert not (inside & ~valid).any()
    assert ("outside the field of view" in tags.get("FRAME", "")) == (field == "round")


def test_levels_leave_the_data_bar_out(tmp_path):
    pixels = np.vstack([specimen(400, 500) // 4 + 60, bar(500, 40)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ingest(tmp_path / "a.png", tmp_path / "r.tif", **READING)
    with rasterio.open(tmp_path / "r.tif") as raster:
        low, high = float(raster.tags()["LOW"]), float(raster.tags()["HIGH"])
    assert (low, high) == pytest.approx(np.percentile(pixels[:400], [0.5, 99.5]), abs=1)
