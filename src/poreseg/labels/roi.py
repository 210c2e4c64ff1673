"""ImageJ regions of interest: one .roi, or a RoiSet.zip of several."""

import zipfile
from pathlib import Path

import numpy as np
import roifile
import shapely
from shapely.geometry.base import BaseGeometry

from poreseg.errors import PoresegError
from poreseg.labels.label import Classes, Grid, Label, draw
from poreseg.labels.shapes import along_one_axis, box, ellipse, on_plane, polygon, with_area

NAME = "ImageJ ROI"
LARGEST = 64 * 2**20  # bytes of all ROIs in a set, unpacked
OUTLINES = (roifile.ROI_TYPE.POLYGON, roifile.ROI_TYPE.FREEHAND, roifile.ROI_TYPE.TRACED)
BOXES = (roifile.ROI_TYPE.RECT, roifile.ROI_TYPE.OVAL)
NO_REGION = (roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.IMAGE)


def sniff(path: Path) -> bool:
    """Whether a file is ImageJ's: a .roi, or a .zip with some within."""
    if path.suffix.lower() != ".zip":
        return path.suffix.lower() == ".roi"
    with zipfile.ZipFile(path) as archive:
        return bool(_members(archive))


def read(path: Path, grid: Grid, classes: Classes) -> Label:
    """Rasterise the regions; 0, 0 is the top left corner of the first pixel.

    ImageJ names regions by position unless the user does: a name that is a class counts as
    one, otherwise the region is a pore. Of a stack, only regions on the image's plane, or on
    none, count.
    """
    rois = [(roifile.ImagejRoi.frombytes(data), name) for name, data in _unpacked(path)]
    places = [(roi.position or roi.z_position, roi.t_position) for roi, _ in rois]
    rois = on_plane(rois, along_one_axis(places, path), grid, path)
    found = (
        (_area(roi), _class(roi.name or name, classes), roi.roitype.name.lower())
        for roi, name in rois
    )
    return draw(with_area(found, path), grid, classes, path)


def _unpacked(path: Path) -> list[tuple[str, bytes]]:
    """File stem and bytes of each ROI; `PoresegError` if they exceed `LARGEST` unpacked."""
    if path.suffix.lower() == ".roi":
        return [(path.stem, path.read_bytes())]
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        if (size := sum(m.file_size for m in members)) > LARGEST:
            raise PoresegError(
                f"{path}: unpacks to {size / 2**20:.0f} MiB; no set of ROIs is so large"
            )
        return [(Path(m.filename).stem, archive.read(m)) for m in members]


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The ROIs in a set."""
    return [member for member in archive.infolist()
            if member.filename.lower().endswith(".roi") and not member.filename.startswith("__MACOSX/")]  # fmt: skip


def _area(roi: roifile.ImagejRoi) -> BaseGeometry | None:
    if roi.composite:
        # all rings in one polygon: ImageJ fills by the even-odd rule, and so does `draw`
        rings = [ring for ring in roi.coordinates(multi=True) if len(ring) > 3]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise ValueError("an outline has coordinates that are no numbers")
        rings.sort(key=lambda ring: -shapely.Polygon(ring).area)  # bounds are those of the first
        return shapely.Polygon(rings[0], rings[1:]) if rings else None
    if roi.roitype in OUTLINES:
        return polygon(roi.coordinates())
    if roi.roitype not in BOXES or roi.subtype in NO_REGION:
        return None
    left, top, right, bottom = map(float, (roi.left, roi.top, roi.right, roi.bottom))
    if roi.subpixelrect:
        left, top, right, bottom = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    if roi.roitype == roifile.ROI_TYPE.RECT:
        return box(left, top, right, bottom)
    return ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


def _class(name: str, classes: Classes) -> str | None:
    """The class in a name, or None; `unknown-3`, `unknown 3` are unknown."""
    for candidate in (name, name.rstrip("0123456789").rstrip("-_ #")):
        if classes.meaning(candidate) is not None:
            return candidate
    return None
