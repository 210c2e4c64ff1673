"""Feed one reader with broken files and say what went wrong; run by test_malformed.

python tests/hostile.py READER FOLDER COUNT

Runs in a process of its own, because a native library may crash, and memory is that of all.
"""

import copy
import io
import json
import random
import re
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import formats
import numpy as np
from test_image_formats import LAYOUTS
from test_label_formats import CASES

from poreseg.errors import PoresegError
from poreseg.images.ingest import look
from poreseg.images.registry import open_image
from poreseg.labels.label import Classes, Grid
from poreseg.labels.rasterise import read_label
from poreseg.labels.registry import images_in

SECONDS = 5.0  # of processor time for one file
MEMORY = 2 * 2**30  # bytes, resident, of the whole process
LABELS = {"GeoJSON": ".geojson", "LabelMe": ".json", "COCO": ".json", "VIA": ".json", "Label Studio": ".json",
          "CVAT": ".xml", "ImageJ ROI": ".zip", "vector layer": ".gpkg", "mask": ".png"}  # fmt: skip
STARTS = {"GeoJSON": "geojson", "LabelMe": "labelme", "COCO": "coco", "VIA": "via", "Label Studio": "label studio",
          "CVAT": "cvat", "ImageJ ROI": "imagej", "vector layer": "geopackage", "mask": "png"}  # fmt: skip
IMAGES = (".tif", ".png", ".bmp", ".webp", ".jp2", ".npy", ".czi", ".jpg")
ODD = [None, True, -1, 0, 1e308, -1e308, float("nan"), float("inf"), 10**30, "", "x", "../../etc/passwd", "/etc/passwd",
       "file:///etc/passwd", [], {}, [[]], [None], {"a": 1}, "9" * 400, 2**31, 2**63, -(2**63), 0.5, [1, 2, 3]]  # fmt: skip


def mutated(data: bytes, suffix: str, chance: random.Random) -> bytes:
    """One broken version of a file."""
    if suffix in (".json", ".geojson") and chance.random() < 0.8:
        return _json(data, chance)
    if suffix == ".xml" and chance.random() < 0.8:
        return _text(data.decode(), chance).encode()
    if suffix == ".zip" and chance.random() < 0.8:
        return _zip(data, chance)
    return _bytes(data, chance)


def _bytes(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        if not broken:
            break
        at, length = chance.randrange(len(broken)), chance.choice([1, 2, 4, 8, 64])
        kind = chance.randrange(6)
        if kind == 0:
            del broken[at:]
        elif kind == 1:
            del broken[at : at + length]
        elif kind == 2:
            broken[at : at + length] = bytes(chance.randrange(256) for _ in range(length))
        elif kind == 3:
            broken[at : at + length] = b"\xff" * length
        elif kind == 4:
            broken[at : at + length] = bytes(length)
        else:
            broken[at:at] = broken[at : at + length]
    return bytes(broken)


def _json(data: bytes, chance: random.Random) -> bytes:
    content = copy.deepcopy(json.loads(data))
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        holder, key = _place(content, chance)
        if holder is None:
            return json.dumps(chance.choice(ODD)).encode()
        kind = chance.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder[key:key] = [holder[key]] * chance.choice([1, 2, 50])
        else:
            holder[key] = chance.choice(ODD)
    return json.dumps(content).encode()


def _place(content, chance):
    """A random member of nested lists and dicts: its holder and its key."""
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if isinstance(content, dict | list):
        walk(content)
    return chance.choice(places) if places else (None, None)


def _text(text: str, chance: random.Random) -> str:
    values = list(re.finditer(r'"([^"]*)"', text))
    for found in chance.sample(values, min(len(values), chance.choice([1, 1, 3]))):
        odd = str(
            chance.choice([*ODD, "1,2;3", "nan,nan;1,2;3,4", ";", ",", "1e400,1;2,2;3,3", "&lt;"])
        )
        text = text.replace(found.group(0), f'"{odd.replace(chr(34), "")}"', 1)
    return text


def _zip(data: bytes, chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.infolist():
            name = chance.choice(
                [member.filename, member.filename, "../../out.roi", "/out.roi", "__MACOSX/x.roi"]
            )
            content = source.read(member)
            target.writestr(name, _bytes(content, chance) if chance.random() < 0.7 else content)
    return out.getvalue()


def vertices() -> list[list[float]]:
    """100,000 points of an outline that crosses itself everywhere."""
    return (np.random.default_rng(0).random((100_000, 2)) * [32, 24]).round(3).tolist()


def hostile(reader: str) -> dict[str, bytes]:
    """Files that are made to hurt, by name."""
    points = vertices()
    flat = formats.flat(points)
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><annotations><image name="&l9;"/></annotations>'
    outside = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations><image name="&x;"/></annotations>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(400 * 2**20))
    crossing = ";".join(f"{x},{y}" for x, y in points)
    deep = b"[" * 200_000
    everywhere = {"empty": b"", "nothing but zeros": bytes(1000), "deep": deep}
    more = {
        "GeoJSON": {"vertices": {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [points]}},
                    "nan": {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[float("nan"), 1], [2, 2], [3, 1]]]}}},
        "LabelMe": {"vertices": {"shapes": [{"label": "pore", "points": points}]},
                    "far": {"shapes": [{"label": "pore", "points": [[0, 0], [1e300, 0], [1e300, 1e300]]}]},
                    "path": {"shapes": [{"label": "pore", "points": [[0, 0], [5, 0], [5, 5]]}], "imagePath": "/etc/../../etc/passwd"}},
        "COCO": {"vertices": {"images": [{"id": 1, "file_name": "../../a.png"}], "annotations": [{"image_id": 1, "segmentation": [flat]}]},
                 "huge": {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}]},
                 "short": {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "segmentation": {"size": [24, 32], "counts": "o" * 50}}]}},
        "VIA": {"vertices": {"a": {"filename": "a.png", "regions": [formats.via_polygon(points, "pore")]}}},
        "Label Studio": {"vertices": [{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"points": points, "polygonlabels": ["pore"]}}]}]}],
                         "huge": [{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"rle": [255] * 40, "brushlabels": ["pore"]}}]}]}]},
        "CVAT": {"laughs": bomb, "outside": outside,
                 "vertices": f'<annotations><image name="a.png"><polygon label="pore" points="{crossing}"/></image></annotations>',
                 "huge": '<annotations><image name="a.png"><mask label="pore" rle="999999999999" left="0" top="0" width="1000000" height="1000000"/></image></annotations>'},
        "ImageJ ROI": {"bomb": packed.getvalue()},
    }.get(reader, {})  # fmt: skip
    as_bytes = {name: c if isinstance(c, bytes) else (c if isinstance(c, str) else json.dumps(c)).encode()
                for name, c in more.items()}  # fmt: skip
    return everywhere | as_bytes


def read(path: Path, reader: str) -> None:
    """Read a file as a build would, and check what comes out."""
    if reader in LABELS:
        images_in(path)
        values = read_label([path], Grid(24, 32, image="a.png"), Classes(other="matrix")).values
        assert values.shape == (24, 32)
        assert set(np.unique(values).tolist()) <= {0, 1, 255}
    else:
        with open_image(path) as source:
            view, *_ = look(source, data_bar_px=None, data_bar="auto", border="auto",
                            low_percentile=0.5, high_percentile=99.5)  # fmt: skip
            assert view.valid.any()


def main(reader: str, folder: Path, count: int) -> list[str]:
    """What went wrong, a line a file."""
    suffix = LABELS.get(reader, reader)
    seeds = []
    cases = {k: c[:2] for k, c in CASES.items() if k.startswith(STARTS[reader])} if reader in LABELS else {
        k: c[:2] for k, c in LAYOUTS.items() if c[0].endswith(reader)}  # fmt: skip
    if reader == ".jpg":
        cases = {"jpg": ("a.jpg", formats.picture(np.dstack([formats.PORE * 200] * 3)))}
    for number, (name, write) in enumerate(cases.values()):
        path = folder / f"seed-{number}" / name
        path.parent.mkdir(parents=True)
        write(path)
        seeds.append(path)
    chance = random.Random(reader)
    files = [(f"hostile-{name}{suffix}", data) for name, data in hostile(reader).items()]
    for number in range(count):
        seed = chance.choice(seeds)
        files.append((f"{number}{seed.suffix}", mutated(seed.read_bytes(), seed.suffix, chance)))
    wrong = []
    for name, data in files:
        path = folder / name
        path.write_bytes(data)
        start = time.process_time()
        try:
            read(path, reader)
        except PoresegError as error:
            if "\n" in str(error) or path.name not in str(error):
                wrong.append(f"{name}: says {error}")
        except BaseException:
            wrong.append(f"{name}: {traceback.format_exc()}")
        if (spent := time.process_time() - start) > SECONDS:
            wrong.append(f"{name}: took {spent:.1f} s")
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent as well
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    if peak > MEMORY:
        wrong.append(f"took {peak / 2**30:.1f} GiB")
    return wrong


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print("\n".join(found))
    sys.exit(bool(found))
