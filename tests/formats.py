"""One asymmetric pattern of pores, written in every format that poreseg reads.

Where a format has a reference library, that library writes it.
"""

import base64
import io
import json
import warnings

import numpy as np
import pyogrio
import rasterio
import roifile
import shapely
import tifffile
from affine import Affine
from PIL import Image
from pycocotools import mask as coco
from pylibCZIrw import czi
from rasterio.crs import CRS

from poreseg.labels.label import Grid

RECTANGLES = [  # left, top, right, bottom and class: a ring with an island, a corner, a bar
    (4, 3, 20, 15, "pore"), (8, 6, 16, 12, "matrix"), (11, 8, 13, 10, "pore"),
    (0, 20, 5, 24, "pore"), (25, 1, 31, 2, "pore"),
]  # fmt: skip
PORE = np.zeros((24, 32), np.uint8)
for left, top, right, bottom, kind in RECTANGLES:
    PORE[top:bottom, left:right] = kind == "pore"
GRID = Grid(24, 32, image="a.png")
UTM = CRS.from_epsg(32633)
PLACE = Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
ON_MAP = Grid(24, 32, UTM, PLACE, image="a.png")


def ring(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(points):
    """x, y, x, y and so on, as COCO has it."""
    return [coordinate for point in points for coordinate in point]


SHAPES = [(ring(*sides), name) for *sides, name in RECTANGLES]
AREAS = [  # with holes, as GIS formats have them
    shapely.Polygon(ring(4, 3, 20, 15), [ring(8, 6, 16, 12)]),
    *(shapely.box(*sides) for *sides, _ in RECTANGLES[2:]),
]


def _json(content):
    return lambda path: path.write_text(json.dumps(content))


# --- outlines ---------------------------------------------------------------------------


def labelme(shapes, size=(24, 32)):
    return _json({"version": "5.5.0", "shapes": shapes, "imagePath": "../../a.png",
                  "imageHeight": size[0], "imageWidth": size[1]})  # fmt: skip


def labelme_mask(path):
    cut = PORE[3:15, 4:20]
    buffer = io.BytesIO()
    Image.fromarray(cut).save(buffer, "PNG")
    ring_mask = {"label": "pore", "shape_type": "mask", "points": [[4, 3], [19, 14]],
                 "mask": base64.b64encode(buffer.getvalue()).decode()}  # fmt: skip
    others = [{"label": name, "points": points} for points, name in SHAPES[3:]]
    labelme([ring_mask, *others])(path)


def feature(area, name="pore", place=None):
    if place is not None:
        area = shapely.affinity.affine_transform(
            area, [place.a, place.b, place.d, place.e, place.c, place.f]
        )
    return {
        "type": "Feature",
        "properties": {"class": name},
        "geometry": shapely.geometry.mapping(area),
    }


def collection(features, crs=None):
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    return _json({"type": "FeatureCollection", "features": features} | named)


def qupath(path):
    features = [feature(area) for area in AREAS]
    for item in features:
        item["properties"] = {
            "objectType": "annotation",
            "classification": {"name": "Pore", "color": [1, 2, 3]},
        }
    _json(features)(path)


QGIS_NO_MAP = Affine(1, 0, 0, 0, -1, 0)  # how QGIS shows an image without a map


def vector(driver, crs=None, place=QGIS_NO_MAP, column="class", areas=AREAS, names=("pore",) * 4):
    def write(path):
        moved = [
            shapely.affinity.affine_transform(a, [place.a, 0, 0, place.e, place.c, place.f])
            for a in areas
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "'crs' was not provided"
            )  # as of an image without a map
            warnings.filterwarnings("ignore", "Normalized/laundered field name")
            pyogrio.raw.write(path, shapely.to_wkb(np.array(moved)), [np.array(names, object)],
                          [column], geometry_type="Polygon", crs=crs, driver=driver)  # fmt: skip

    return write


def coco_file(segmentations, names=("pore",), images=None):
    images = images or [{"id": 7, "file_name": "folder/a.png", "height": 24, "width": 32}]
    annotations = [{"id": n, "image_id": 7, "category_id": names.index(name), "segmentation": shape}
                   for n, (shape, name) in enumerate(segmentations)]  # fmt: skip
    return _json({"images": images, "annotations": annotations,
                  "categories": [{"id": n, "name": name} for n, name in enumerate(names)]})  # fmt: skip


COCO_POLYGONS = [([flat(points)], name) for points, name in SHAPES]


def coco_runs(compressed):
    runs = coco.encode(np.asfortranarray(PORE))
    if compressed:
        return {"size": runs["size"], "counts": runs["counts"].decode()}
    flat = PORE.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [24, 32], "counts": np.diff([0, *ends, flat.size]).tolist()}


MORE_IMAGES = [
    {"id": 3, "file_name": "b.png", "height": 9, "width": 9},
    {"id": 7, "file_name": "a.png", "height": 24, "width": 32},
]


def via(regions, project=False, **more):
    files = {
        "a.png123": {"filename": "a.png", "size": 123, "regions": regions, "file_attributes": {}}
    }
    return _json({"_via_img_metadata": files, "_via_settings": {}} | more if project else files)


def via_polygon(points, name, key="class", **before):
    x, y = zip(*points, strict=True)
    return {"shape_attributes": {"name": "polygon", "all_points_x": x, "all_points_y": y},
            "region_attributes": before | {key: name}}  # fmt: skip


def via_rectangle(left, top, right, bottom, name):
    return {"shape_attributes": {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top},
            "region_attributes": {"class": name}}  # fmt: skip


VIA_CHOICES = {"region": {"kind": {"type": "dropdown", "options": {"1": "pore", "2": "matrix"}}}}


def percent(points):
    return [[100 * x / 32, 100 * y / 24] for x, y in points]


def studio(results, image="/data/upload/4/1a2b3c4d-a.png"):
    sized = [{"original_width": 32, "original_height": 24, "image_rotation": 0, "id": str(n)} | r
             for n, r in enumerate(results)]  # fmt: skip
    old = {"was_cancelled": False, "created_at": "2024-01-01", "result": []}
    return _json([{"id": 1, "data": {"image": image},
                   "annotations": [{"was_cancelled": False, "created_at": "2025-01-01", "result": sized}, old]}])  # fmt: skip


STUDIO_POLYGONS = [{"type": "polygonlabels", "value": {"points": percent(points), "polygonlabels": [name]}}
                   for points, name in SHAPES]  # fmt: skip
STUDIO_RECTANGLES = [
    {"type": "rectanglelabels", "value": {"x": x0 / 0.32, "y": y0 / 0.24, "width": (x1 - x0) / 0.32,
     "height": (y1 - y0) / 0.24, "rotation": 0, "rectanglelabels": [name]}}
    for x0, y0, x1, y1, name in RECTANGLES
]  # fmt: skip


def studio_min(path):
    values = [r["value"] | {"original_width": 32, "original_height": 24} for r in STUDIO_POLYGONS]
    _json([{"image": "s3://bucket/a.png", "id": 1, "label": values, "annotator": 1}])(path)


def brush_runs(pixels, literal=False):
    """Encode a brush mask as the Label Studio editor does; `literal` writes each value out."""
    values = np.repeat(pixels.astype(np.uint8).ravel() * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    if literal:
        for start in range(0, len(values), 256):
            chunk = values[start : start + 256]
            bits += "0" + "10" + f"{len(chunk) - 1:08b}" + "".join(f"{v:08b}" for v in chunk)
    else:
        ends = np.flatnonzero(np.diff(values)) + 1
        for start, end in zip([0, *ends], [*ends, len(values)], strict=True):
            bits += "1" + "11" + f"{end - start - 1:016b}" + f"{values[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def studio_brush(literal):
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": brush_runs(PORE, literal),
                                              "brushlabels": ["pore"]}}  # fmt: skip
    return studio([brush], "/data/local-files/?d=some%20folder/a.png")


def cvat(shapes, name="a.png"):
    body = f'<image id="0" name="{name}" width="32" height="24">{"".join(shapes)}</image>'
    return lambda path: path.write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version>{body}</annotations>'
    )


CVAT_POLYGONS = ['<polygon label="{}" occluded="0" points="{}" z_order="0"/>'.format(
    name, ";".join(f"{x:.2f},{y:.2f}" for x, y in points)) for points, name in SHAPES]  # fmt: skip
CVAT_BOXES = [f'<box label="{name}" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" z_order="{n}"/>'
              for n, (x0, y0, x1, y1, name) in enumerate(RECTANGLES)]  # fmt: skip


def cvat_mask():
    cut = PORE[3:15, 4:20].ravel()
    ends = np.flatnonzero(np.diff(cut)) + 1
    runs = np.diff([0, *ends, cut.size]).tolist()
    runs = [0, *runs] if cut[0] else runs
    text = ", ".join(map(str, runs))
    return [
        f'<mask label="pore" rle="{text}" left="4" top="3" width="16" height="12" z_order="0"/>',
        *CVAT_BOXES[3:],
    ]


def roi_set(rois):
    """A zip of ROIs, whose entries have names of their own: several ROIs are called by one class."""
    names = [f"{number}.roi" for number in range(len(rois))]
    return lambda path: roifile.roiwrite(path, rois, name=names, mode="w")


def roi_polygons():
    rois = [roifile.ImagejRoi.frompoints(np.array(points, np.float32)) for points, _ in SHAPES]
    for roi, (_, name) in zip(rois, SHAPES, strict=True):
        roi.name = name
    return rois


def roi_rectangles():
    rois = []
    for number, (x0, y0, x1, y1, name) in enumerate(RECTANGLES):
        roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=x0, top=y0, right=x1, bottom=y1)
        roi.name = f"{name}-{number}"
        rois.append(roi)
    return rois


def roi_composite():
    steps = []
    for points, _ in SHAPES:
        steps += [0, *points[0], *(v for point in points[1:] for v in (1, *point)), 4]
    steps = np.array(steps, np.float32)
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=0, top=1, right=31, bottom=24,
                            shape_roi_size=len(steps), multi_coordinates=steps)  # fmt: skip
    roi.name = "pore"
    return roi


# --- masks ------------------------------------------------------------------------------


def picture(pixels, mode=None, **options):
    return lambda path: Image.fromarray(pixels, mode).save(path, **options)


def palette(colours, pixels=PORE, **options):
    def write(path):
        image = Image.fromarray(pixels, "P")
        image.putpalette(colours)
        image.save(path, **options)

    return write


def transparent(colour):
    pixels = np.zeros((24, 32, 4), np.uint8)
    pixels[PORE == 1] = (*colour, 255)
    return picture(pixels)


def tiff(pixels, **options):
    return lambda path: tifffile.imwrite(path, pixels, **options)


def gdal(driver, pixels, **options):
    def write(path):
        bands = pixels[None] if pixels.ndim == 2 else pixels
        with rasterio.open(path, "w", driver=driver, count=len(bands), height=bands.shape[1],
                           width=bands.shape[2], dtype=bands.dtype, **options) as file:  # fmt: skip
            file.write(bands)

    return write


def czi_file(pixels, scale=0.0, planes=None):
    """Pixels (H, W) or (H, W, 3) in RGB; the library wants BGR, and metres where it says micrometres."""

    def write(path):
        with czi.create_czi(str(path)) as document:
            for plane in planes or [{}]:
                data = pixels[..., ::-1] if pixels.ndim == 3 else pixels
                document.write(
                    data=np.ascontiguousarray(data), plane={"C": 0, "Z": 0, "T": 0} | plane
                )
            document.write_metadata("a", scale_x=scale, scale_y=scale)

    return write


def numbered():
    """Each pore with a number of its own, as instance exports have them."""
    out = np.zeros((24, 32), np.uint16)
    out[PORE == 1] = 1
    out[8:10, 11:13] = 2
    out[20:, :5] = 300
    out[1, 25:31] = 4
    return out


def coloured(pore, matrix):
    return np.where((PORE == 1)[..., None], np.uint8(pore), np.uint8(matrix))


CODES = np.where(PORE == 1, 2, 6).astype(np.uint8)  # class values; none is 0
CODES[15:19] = 10
