"""The specimens of the demo study, and the files that a user would have of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poreseg.drawn import fields
from poreseg.drawn.modalities import MODALITIES, core
from poreseg.files import whole, write_text
from poreseg.labels.label import Grid
from poreseg.labels.write import write_label
from poreseg.study import Sample, list_samples

FORMS = {
    "patches": fields.patches, "ellipses": fields.ellipses, "bubbles": fields.bubbles,
    "gaps": fields.gaps, "cracks": fields.cracks,
}  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """What one image shows and how it is filed.

    `forms` are (form, porosity, scale in px); `seed` makes the drawing.
    """

    name: str
    modality: str
    height: int
    width: int
    forms: tuple[tuple[str, float, float], ...]
    image: str  # suffix
    label: str  # suffix
    split: str
    seed: int
    specimen: str = ""
    bits: int = 8
    pixel_size_um: float | None = None

    @property
    def row(self) -> dict[str, str]:
        """Its row of samples.csv."""
        return {
            "image": self.name + self.image, "label": self.name + self.label,
            "specimen": self.specimen or self.name,
            "pixel_size_um": str(self.pixel_size_um or ""), "split": self.split,
        }  # fmt: skip


def _specimens() -> tuple[Specimen, ...]:
    section = {"modality": "section", "image": ".tif", "label": ".geojson"}
    sem = {"modality": "sem", "image": ".png", "label": ".png", "pixel_size_um": 0.25}
    photo = {"modality": "photo", "image": ".jpg", "label": ".json"}
    ct = {"modality": "ct", "image": ".tif", "label": ".png", "bits": 16, "pixel_size_um": 4.0}
    table: list[
        tuple[str, dict[str, Any], int, int, tuple[tuple[str, float, float], ...], str, str]
    ] = [
        ("section-1", section, 640, 800, (("gaps", 0.16, 16),), "train", ""),
        ("section-2", section, 768, 1024, (("patches", 0.14, 14),), "train", ""),
        (
            "section-3",
            section,
            512,
            640,
            (("ellipses", 0.12, 14), ("cracks", 0.02, 14)),
            "train",
            "",
        ),
        ("sem-1", sem, 600, 800, (("ellipses", 0.09, 9),), "train", ""),
        (
            "sem-2",
            {**sem, "bits": 16},
            768,
            1024,
            (("gaps", 0.1, 14), ("bubbles", 0.03, 8)),
            "train",
            "",
        ),
        (
            "sem-3",
            {**sem, "image": ".tif"},
            512,
            512,
            (("cracks", 0.05, 16), ("bubbles", 0.04, 6)),
            "train",
            "",
        ),
        ("photo-1", photo, 720, 960, (("bubbles", 0.12, 14),), "train", ""),
        ("photo-2", photo, 800, 800, (("patches", 0.12, 16),), "train", ""),
        ("photo-3", photo, 640, 900, (("cracks", 0.05, 20), ("ellipses", 0.05, 10)), "train", ""),
        ("ct-1", ct, 704, 704, (("gaps", 0.14, 12),), "train", "core-1"),
        ("ct-2", ct, 704, 704, (("gaps", 0.14, 12),), "train", "core-1"),
        ("section-4", section, 700, 900, (("gaps", 0.12, 20), ("bubbles", 0.03, 10)), "test", ""),
        ("section-5", section, 512, 768, (("patches", 0.2, 12),), "test", ""),
        ("sem-4", sem, 1100, 1500, (("ellipses", 0.06, 12), ("gaps", 0.05, 10)), "test", ""),
        ("sem-5", {**sem, "bits": 16}, 600, 600, (("patches", 0.1, 9),), "test", ""),
        ("photo-4", photo, 900, 1200, (("bubbles", 0.06, 18), ("cracks", 0.03, 18)), "test", ""),
        ("ct-3", ct, 832, 832, (("patches", 0.12, 8),), "test", "core-2"),
    ]
    return tuple(
        Specimen(name=name, height=height, width=width, forms=forms, split=split, specimen=specimen,
                 seed=1000 + i, **how)
        for i, (name, how, height, width, forms, split, specimen) in enumerate(table)
    )  # fmt: skip


SPECIMENS = _specimens()


def samples(folder: Path, specimens: Sequence[Specimen] = SPECIMENS) -> list[Sample]:
    """The study's samples, known before it is drawn."""
    images = [folder / "images" / s.row["image"] for s in specimens]
    labels = [folder / "labels" / s.row["label"] for s in specimens]
    return list_samples(images, labels, {s.row["image"]: s.row for s in specimens}, folder)


def files(folder: Path, specimens: Sequence[Specimen] = SPECIMENS) -> list[str]:
    """All files of the study, known before it is drawn."""
    found = [str(path) for s in samples(folder, specimens) for path in (s.image, *s.labels)]
    return [*found, str(folder / "samples.csv")]


def draw_study(folder: Path | str, specimens: Sequence[Specimen] = SPECIMENS) -> None:
    """Draw a study: images, exact labels and samples.csv."""
    folder = Path(folder)
    for specimen in specimens:
        image, label = draw(specimen)
        save_image(folder / "images" / specimen.row["image"], image, specimen.bits)
        save_label(folder / "labels" / specimen.row["label"], label, specimen.row["image"])
    columns = list(specimens[0].row)
    lines = [",".join(columns), *(",".join(s.row.values()) for s in specimens)]
    write_text(folder / "samples.csv", "\n".join(lines) + "\n")


def draw(specimen: Specimen) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image in 0..1, (H, W) or (H, W, 3), and label (H, W): 0 matrix, 1 pore, 255 unknown."""
    generator = np.random.default_rng(specimen.seed)
    shape = specimen.height, specimen.width
    pore = np.zeros(shape, bool)
    for form, porosity, scale in specimen.forms:
        pore |= FORMS[form](generator, shape, porosity, scale)
    label = pore.astype(np.uint8)
    if specimen.modality == "ct":
        pore &= core(shape)
        label[~core(shape)] = 255
    return MODALITIES[specimen.modality](generator, pore), label


def save_image(path: Path, image: NDArray[np.float32], bits: int) -> None:
    """Save an image in 0..1 with 8 or 16 bits, in the format of the suffix."""
    dtype = np.uint16 if bits == 16 else np.uint8
    pixels = np.rint(image * np.iinfo(dtype).max).astype(dtype)
    options: dict[str, Any] = {"quality": 92} if path.suffix == ".jpg" else {}
    with whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, **options)


def save_label(path: Path, label: NDArray[np.uint8], image: str) -> None:
    """Save a label as GeoJSON, LabelMe JSON or a mask PNG, by the suffix; all are exact."""
    form = {".geojson": "geojson", ".json": "labelme"}.get(path.suffix, "mask")
    write_label(
        path, label, Grid(label.shape[0], label.shape[1], image=image), form, f"../images/{image}"
    )
