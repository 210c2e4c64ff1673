"""The albumentations pipeline, written once as JSON, the very file train loads.

The one module that knows albumentations.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poreseg.files import read_json, write_json

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for news otherwise
import albumentations as A
import cv2

BENT = 4  # px around a crop, bent with it; pixels move by 2 px inside it, by more near its edge


@dataclass(frozen=True)
class Pipeline:
    """A loaded pipeline: takes `source_px` squares, gives `crop_px` squares."""

    source_px: int
    crop_px: int
    transform: A.Compose

    def __call__(
        self, image: NDArray[np.uint8], label: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augment an image (S, S, 3) and its label (S, S); the same seed, the same result."""
        # with one seed for all parts, as Compose has it, rare changes would always come with likely ones
        parts = self.transform.transforms
        for part, own in zip(
            parts, np.random.SeedSequence(seed).generate_state(len(parts)), strict=True
        ):
            part.set_random_seed(int(own))
        done = self.transform(image=image, mask=label)
        return done["image"], done["mask"]


def write_pipeline(
    path: Path | str,
    *,
    crop: int,
    scale: Sequence[float],
    elastic: float,
    brightness: float,
    hue: float,
    gray: float,
    invert: float,
    shuffle: float,
    blur: float,
    noise: float,
) -> None:
    """Write the pipeline of the `augment` section of params.yaml as JSON.

    The file gives the side of its input square: enough to fill a crop with image at the
    smallest scale, but for turned corners (mirrored).
    """
    settings: dict[str, Any] = {
        "crop": crop, "scale": list(scale), "elastic": elastic, "brightness": brightness,
        "hue": hue, "gray": gray, "invert": invert, "shuffle": shuffle, "blur": blur, "noise": noise,
    }  # fmt: skip
    source = math.ceil(max(crop / min(1.0, scale[0]), crop + 2 * BENT) / 32) * 32
    borders: dict[str, Any] = {"border_mode": cv2.BORDER_REFLECT_101}  # image and label alike
    transform = A.Compose([
        A.D4(p=1.0),
        A.Affine(scale=(scale[0], scale[1]), rotate=(-20, 20), shear=(-8, 8), keep_ratio=True, p=0.9,
                 **borders),
        A.CenterCrop(crop + 2 * BENT, crop + 2 * BENT),  # bending costs by the pixel
        A.ElasticTransform(alpha=60, sigma=8, p=elastic, **borders),
        A.CenterCrop(crop, crop),
        A.ColorJitter(brightness=(1 - brightness, 1 + brightness),
                      contrast=(1 - brightness, 1 + brightness),
                      saturation=(0.6, 1.4), hue=(-hue, hue), p=0.8),
        A.RandomGamma(gamma_limit=(70, 140), p=0.4),
        A.ToGray(p=gray),
        A.ChannelShuffle(p=shuffle),
        A.InvertImg(p=invert),
        A.GaussianBlur(sigma_limit=(0.5, 2.0), p=blur),
        A.GaussNoise(std_range=(0.02, 0.08), p=noise),
    ])  # fmt: skip
    write_json(path, {"settings": settings, "source_px": source, "crop_px": crop,
                      "albumentations": A.to_dict(transform)})  # fmt: skip


def load_pipeline(path: Path | str) -> Pipeline:
    """Load a pipeline that `write_pipeline` wrote."""
    content = read_json(path)
    transform = A.from_dict(content["albumentations"])
    assert isinstance(transform, A.Compose)
    return Pipeline(content["source_px"], content["crop_px"], transform)
