"""Measure: porosity and the sizes and shapes of the pores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import label as label_regions
from skimage.measure import regionprops_table

from poreseg.analysis.objects import weighted_median
from poreseg.classes import PORE, UNKNOWN
from poreseg.images.raster import Raster, open_raster
from poreseg.prediction.pores import whole_pores
from poreseg.tables import read_table, write_table

LENGTHS = ("equivalent_diameter", "perimeter", "major_axis", "minor_axis")
SIZE_COLUMNS = ["from_px", "to_px", "pores", "area_fraction"]
SEEN = {  # boolean columns, and the mask tag and value that make them True
    "strange": ("STRANGE", "true"),
    "inverted": ("POLARITY", "inverted"),
}
PROPERTIES = {  # scikit-image's names and ours
    "label": "pore", "centroid-0": "row_px", "centroid-1": "col_px", "area": "area_px2",
    "equivalent_diameter_area": "equivalent_diameter_px", "perimeter_crofton": "perimeter_px",
    "axis_major_length": "major_axis_px", "axis_minor_length": "minor_axis_px",
    "orientation": "orientation_rad", "eccentricity": "eccentricity",
}  # fmt: skip


def measure(mask: Path | str, table: Path | str, *, connectivity: int) -> None:
    """Write a table of an image's pores.

    Parameters
    ----------
    mask
        What segment wrote: 0 matrix, 1 pore, 255 no specimen.
    table
        CSV to write, one row a pore, in px and px2 and, where the pixel size is known, in
        um and um2. `touches_border` marks pores cut by the image's or the specimen's
        border: their sizes are lower bounds.
    connectivity
        2: pixels that touch at corners are one pore; 1: at edges only.
    """
    with open_raster(mask) as raster:
        size = raster.pixel_size_um
        pores = describe_raster(raster, connectivity)
    if size:
        for length in LENGTHS:
            pores[f"{length}_um"] = pores[f"{length}_px"] * size
        pores["area_um2"] = pores["area_px2"] * size**2
    write_table(table, pores, digits=6)


def describe_raster(mask: Raster, connectivity: int) -> pd.DataFrame:
    """Like `describe`, for a mask of any size; pores are numbered from top to bottom."""
    tables = []
    for top, part in whole_pores(mask, connectivity):
        table = describe(part, connectivity)
        tables.append(table.assign(row_px=table["row_px"] + top))
    pores = pd.concat(tables, ignore_index=True)
    return pores.assign(pore=np.arange(1, len(pores) + 1))


def describe(mask: NDArray[np.uint8], connectivity: int) -> pd.DataFrame:
    """Size and shape of each pore of a mask (H, W), lengths in px, areas in px2.

    The equivalent diameter is that of a disc of the same area; the perimeter is Crofton's
    estimate in four directions, nearly unbiased by pixel stairs for round shapes (both as
    defined by scikit-image). Circularity is 4 pi area / perimeter^2, clipped to 1.
    """
    regions = label_regions(mask == PORE, connectivity=connectivity)
    wanted = [name.split("-")[0] for name in PROPERTIES]
    table = pd.DataFrame(regionprops_table(regions, properties=list(dict.fromkeys(wanted))))
    table = table.rename(columns=PROPERTIES)[list(PROPERTIES.values())]
    table["area_px2"] = table["area_px2"].astype(np.int64)
    table["circularity"] = (4 * np.pi * table["area_px2"] / table["perimeter_px"] ** 2).clip(
        upper=1
    )
    outside = np.pad(mask == UNKNOWN, 1, constant_values=True)
    beside = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    cut = np.unique(regions[beside & (regions > 0)])
    table["touches_border"] = table["pore"].isin(cut)
    return table


def measure_all(
    names: Sequence[str],
    masks: Sequence[Path | str],
    tables: Sequence[Path | str],
    porosity: Path | str,
    sizes: Path | str,
    *,
    samples: Sequence[tuple[str, str | None]] | None = None,
) -> None:
    """Write porosity.csv, a row per image, and pore-sizes.csv, a row per image and size class.

    Porosity is the share of pore in the specimen's area. The area-weighted median
    diameter halves the pore area: half of it is in larger pores. `samples`, if given, adds
    columns specimen and role for each image; the role is None without a label.
    """
    rows, classes = [], []
    for name, mask, table in zip(names, masks, tables, strict=True):
        specimen = pore = 0
        with open_raster(mask) as raster:
            size, tags = raster.pixel_size_um, raster.tags
            for strip in raster.strips():
                values = raster.band(strip)
                specimen += int((values != UNKNOWN).sum())
                pore += int((values == PORE).sum())
        pores = read_table(table)
        diameter = pores["equivalent_diameter_px"]
        row: dict[str, Any] = {
            "image": name, "porosity": pore / specimen if specimen else None, "pores": len(pores),
            "pore_area_px2": pore, "specimen_area_px2": specimen,
            "median_diameter_px": diameter.median() if len(pores) else None,
            "area_weighted_median_diameter_px": weighted_median(diameter, pores["area_px2"]),
            "largest_diameter_px": diameter.max() if len(pores) else None,
            "cut_area_fraction": pores["area_px2"][pores["touches_border"]].sum() / pore if pore else None,
            "pixel_size_um": size, "threshold": float(tags["THRESHOLD"]) if "THRESHOLD" in tags else None,
            **{column: tags.get(tag) == yes for column, (tag, yes) in SEEN.items()},
        }  # fmt: skip
        for key in ("median_diameter", "area_weighted_median_diameter", "largest_diameter"):
            value = row[f"{key}_px"]
            row[f"{key}_um"] = value * size if size and value is not None else None
        rows.append(row)
        own = size_classes(pores)
        um = {f"{edge}_um": own[f"{edge}_px"] * (size or np.nan) for edge in ("from", "to")}
        classes.append(own.assign(image=name, **um))
    found = pd.DataFrame(rows)
    if samples is not None:
        for place, column in enumerate(("specimen", "role")):
            found.insert(1 + place, column, [sample[place] for sample in samples])
    write_table(porosity, found, digits=6)
    write_table(sizes, pd.concat(classes)[["image", *SIZE_COLUMNS, "from_um", "to_um"]], digits=6)


def measure_specimens(porosity: Path | str, table: Path | str) -> None:
    """Write specimens.csv, a row per specimen, from a porosity.csv with specimens.

    A specimen's porosity is the pore area over the specimen area, summed over its images;
    of sections it estimates the volume's (Delesse). Areas are summed in um2 where all its
    pixel sizes are known, else in px2. The standard deviation is between its images.
    """
    rows = []
    for specimen, images in read_table(porosity).groupby("specimen", sort=False):
        scale = images["pixel_size_um"] if images["pixel_size_um"].notna().all() else 1.0
        pore, area = ((images[f"{kind}_area_px2"] * scale**2).sum() for kind in ("pore", "specimen"))  # fmt: skip
        rows.append({
            "specimen": specimen, "images": len(images), "porosity": pore / area if area else None,
            "porosity_sd": images["porosity"].std(), "pores": images["pores"].sum(),
            "strange_images": images["strange"].sum(),
        })  # fmt: skip
    write_table(table, pd.DataFrame(rows), digits=6)


def size_classes(pores: pd.DataFrame) -> pd.DataFrame:
    """Number of pores, and their share of the pore area, by equivalent diameter.

    Classes double from 1 px up: 1 to 2, 2 to 4 and so on; the upper limit is not included.
    """
    diameter, area = pores["equivalent_diameter_px"], pores["area_px2"]
    if pores.empty:
        return pd.DataFrame(columns=SIZE_COLUMNS)
    edges = 2.0 ** np.arange(int(np.log2(diameter.max())) + 2)
    count = np.histogram(diameter, edges)[0]
    weight = np.histogram(diameter, edges, weights=area)[0] / area.sum()
    return pd.DataFrame(
        dict(zip(SIZE_COLUMNS, (edges[:-1], edges[1:], count, weight), strict=True))
    )
