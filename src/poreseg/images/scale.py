"""Pixel size in micrometres, as microscopes and programs write it into image files."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from affine import Affine
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from rasterio.crs import CRS

from poreseg.errors import warn

UM = {  # micrometres per unit, as the formats spell their units
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0,
    "microns": 1.0, "nm": 1e-3, "pm": 1e-6, "å": 1e-4, "angstrom": 1e-4, "inch": 25400.0, "inches": 25400.0,
    "in": 25400.0,
}  # fmt: skip
METRES = {  # of a spelled-out unit, by prefix
    "": 1e6, "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3, "pico": 1e-6,
}  # fmt: skip
NO_UNIT = ("", "pixel", "pixels", "px")  # what ImageJ writes where there is no scale
FINEST_PRINT = 2400  # dots per inch, about 10 um each: finer is a microscope's
SCREEN_DPI = (1, 25, 72, 96)  # defaults of programs without a scale; 25 is 1 per mm
SAME = 0.01  # relative difference of equal scales


def micrometres(value: Any, unit: Any) -> float | None:
    """A length in micrometres; None unless it is positive, finite and of a known unit."""
    factor = _factor(str(unit).strip().casefold())
    try:
        length = float(value) * factor if factor else 0.0
    except (TypeError, ValueError):
        return None
    return length if 0 < length < float("inf") else None


def _factor(unit: str) -> float | None:
    """Micrometres per unit, abbreviated or in full, singular or plural."""
    one = unit.removesuffix("s")
    prefix = one.removesuffix("metre" if one.endswith("re") else "meter")
    return UM.get(unit) if prefix == one else METRES.get(prefix)


def choose(found: Mapping[str, float], wanted: float | None, name: str) -> tuple[float | None, str]:
    """The pixel size to use and its source, or None and ""; warns of conflicts.

    Parameters
    ----------
    found
        Micrometres per pixel by source, the most trustworthy first.
    wanted
        From samples.csv or the command line; comes first.
    name
        The image, for the warning.
    """
    all_of_them = ({"samples.csv or --pixel-size-um": wanted} if wanted else {}) | dict(found)
    if not all_of_them:
        return None, ""
    source, size = next(iter(all_of_them.items()))
    counts = f"{source} counts" + ("" if wanted else ", unless samples.csv or --pixel-size-um gives one")  # fmt: skip
    for other, value in all_of_them.items():
        if abs(value - size) > SAME * size:
            warn(
                f"{name}: pixel size {size:.6g} um in {source}, {value:.6g} um in {other}; {counts}"
            )
    return size, source


def from_ome(xml: str, name: str) -> dict[str, float]:
    """`PhysicalSizeX` of OME-XML; its unit is micrometres where none is written."""
    pixels = next(iter(_elements(xml, "Pixels")), None)
    if pixels is None:
        return {}
    unit = pixels.get("PhysicalSizeXUnit", "µm")
    size = micrometres(pixels.get("PhysicalSizeX"), unit)
    return _square(
        "OME-XML",
        size,
        micrometres(pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit", unit)),
        name,
    )


def from_czi(xml: str, name: str) -> dict[str, float]:
    """`Scaling/Items/Distance` of ZEISS CZI metadata, in metres."""
    sizes: dict[str, float | None] = {"X": None, "Y": None}
    for distance in _elements(xml, "Distance"):
        if (axis := distance.get("Id")) in sizes:
            sizes[axis] = micrometres(distance.findtext("Value"), "m")
    return _square("CZI metadata", sizes["X"], sizes["Y"], name)


def from_zeiss_sem(values: Mapping[str, Any], width: int) -> dict[str, float]:
    """ZEISS SEM tag: `ap_image_pixel_size`, else `ap_pixel_size`, for a width of 1024 px."""
    for key, factor in (("ap_image_pixel_size", 1.0), ("ap_pixel_size", 1024 / width)):
        entry = values.get(key)
        if (
            isinstance(entry, tuple)
            and len(entry) >= 3
            and (size := micrometres(entry[1], entry[2]))
        ):
            return {"ZEISS SEM tag": size * factor}
    return {}


def from_fei(values: Mapping[str, Any], name: str) -> dict[str, float]:
    """FEI/Thermo tag: `PixelWidth` and `PixelHeight` in metres, in the section of the scan."""
    for section in ("Scan", "EScan", "IScan"):
        entry = values.get(section)
        if isinstance(entry, Mapping) and (size := micrometres(entry.get("PixelWidth"), "m")):
            return _square("FEI SEM tag", size, micrometres(entry.get("PixelHeight"), "m"), name)
    return {}


def fei_bar_rows(values: Mapping[str, Any], height: int) -> int | None:
    """Data bar rows: the larger of `DatabarHeight` and height - `ResolutionY` below half; or None."""
    found = []
    for section, key in (("PrivateFei", "DatabarHeight"), ("Image", "ResolutionY")):
        about = values.get(section)
        said = about.get(key) if isinstance(about, Mapping) else None
        if isinstance(said, int):
            found.append(said if key == "DatabarHeight" else height - said)
    return max((rows for rows in found if 0 <= rows < height / 2), default=None)


def from_resolution(x: float, y: float, unit: str, name: str) -> dict[str, float]:
    """TIFF resolution tags, px per `unit`; print (with a warning) and screen sizes give none."""
    if x <= 0 or y <= 0 or not (size := micrometres(1 / x, unit)):
        return {}
    dpi = 25400 / size
    if round(dpi) <= FINEST_PRINT:
        if round(dpi) not in SCREEN_DPI:
            warn(f"{name}: {dpi:.0f} dpi is taken for a print size; if it is the scale, "
                 f"pixel_size_um is {size:.4g}")  # fmt: skip
        return {}
    return _square("resolution tag", size, micrometres(1 / y, unit), name)


def from_imagej(values: Mapping[str, Any], x: float, y: float, name: str) -> dict[str, float]:
    """ImageJ: its `unit`, with pixels per unit in the resolution tags."""
    unit = values.get("unit")
    if unit is None or x <= 0 or y <= 0:
        return {}
    if unit in ("inch", "cm"):  # ImageJ hands a print size on
        return from_resolution(x, y, unit, name)
    if micrometres(1, unit) is None and str(unit).strip().casefold() not in NO_UNIT:
        warn(f"{name}: ImageJ's unit is '{unit}', which is not known; sizes are in px unless pixel_size_um gives one")  # fmt: skip
    return _square("ImageJ metadata", micrometres(1 / x, unit), micrometres(1 / y, unit), name)


def from_crs(crs: CRS | None, transform: Affine, name: str) -> dict[str, float]:
    """Pixel size of a georeference in metres or other lengths, not degrees."""
    if not crs or not crs.is_projected or transform.is_identity:  # CRS without a position
        return {}
    metres = crs.linear_units_factor[1]
    t = transform
    width, height = np.hypot(t.a, t.d), np.hypot(t.b, t.e)  # the image may be rotated
    return _square("georeference", float(width * metres * 1e6), float(height * metres * 1e6), name)


def resolution(size_um: float) -> dict[str, Any]:
    """The TIFF resolution tags of a pixel size, in pixels per cm, as GDAL takes them; Fiji shows them as scale.

    >>> resolution(2.5)
    {'TIFFTAG_XRESOLUTION': 4000.0, 'TIFFTAG_YRESOLUTION': 4000.0, 'TIFFTAG_RESOLUTIONUNIT': 3}
    """
    per_cm = UM["cm"] / size_um
    return {"TIFFTAG_XRESOLUTION": per_cm, "TIFFTAG_YRESOLUTION": per_cm, "TIFFTAG_RESOLUTIONUNIT": 3}  # fmt: skip


def digits(size: float) -> str:
    """A size to three significant digits, integers in full: hundreds of um (sections) to 0.01 um (mudrocks).

    >>> [digits(size) for size in (0.01234, 1.5, 245.31, 999.7, 12345.6)]
    ['0.0123', '1.5', '245', '1000', '12346']
    """
    return f"{size:.3g}" if size < 999.5 else f"{size:.0f}"


def _square(source: str, x: float | None, y: float | None, name: str) -> dict[str, float]:
    """A scale if pixels are square, else none, with a warning: one size for both axes gives wrong areas."""
    if x is None:
        return {}
    if y is not None and abs(x - y) > SAME * x:
        warn(f"{name}: pixels are {x:.4g} by {y:.4g} um in its {source}, not square, so it gives no scale. Resample the "
             f"image to square ones: with one pixel_size_um areas are off by up to a factor of {max(x, y) / min(x, y):.3g}")  # fmt: skip
        return {}
    return {source: x}


def _elements(xml: str, name: str) -> list[Element]:
    """Elements called `name` in any namespace; none if the XML is malformed."""
    try:
        root = fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError):
        return []
    return [e for e in root.iter() if isinstance(e.tag, str) and e.tag.rpartition("}")[2] == name]
