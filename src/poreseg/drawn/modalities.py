"""Four ways of imaging pores, each with dark distractors.

A modality takes the pores (H, W) and gives the image, float in 0..1, (H, W) or (H, W, 3).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from poreseg.drawn.fields import Field, Mask, grains, smooth_noise, soften, top_share

Values = NDArray[np.floating]
Modality = Callable[[np.random.Generator, Mask], NDArray[np.float32]]


def section(draw: np.random.Generator, pore: Mask) -> NDArray[np.float32]:
    """Bright-field thin section: dyed pores; opaque grains and dark cement are the distractors."""
    shape = pore.shape
    scale = draw.uniform(35, 60)
    cell, edge = grains(draw, shape, scale)
    tones = draw.uniform(0.62, 0.95, cell.max() + 1)
    tint = np.array([1.0, 0.96, 0.86]) + draw.normal(0, 0.03, (cell.max() + 1, 3))
    opaque = draw.random(cell.max() + 1) < 0.05
    tones[opaque] = draw.uniform(0.06, 0.2)
    image = tones[cell][..., None] * tint[cell]
    image += 0.05 * smooth_noise(draw, shape, 3)[..., None] * ~opaque[cell][..., None]
    cement = top_share(smooth_noise(draw, shape, 40), 0.12) & (edge < scale / 4)
    image[cement] *= np.array([0.55, 0.42, 0.3])
    rim = np.exp(-edge / 2.5)[..., None] * 0.25
    image *= 1 - rim
    dye = np.array([0.25, 0.5, 0.8]) * draw.uniform(0.75, 1.15) + draw.normal(0, 0.05, 3)
    depth = 1 + 0.12 * smooth_noise(draw, shape, 15)[..., None]
    image = _mix(image, dye * depth, soften(pore, 1.0)[..., None])
    return _finish(draw, image * _shading(draw, shape, 0.12)[..., None], blur=0.6, noise=0.015)


def sem(draw: np.random.Generator, pore: Mask) -> NDArray[np.float32]:
    """SEM: black pores with charged rims; dark smooth organic patches are the distractors."""
    shape = pore.shape
    cell, _ = grains(draw, shape, draw.uniform(40, 90))
    tones = draw.choice([0.45, 0.55, 0.62, 0.85], cell.max() + 1, p=[0.3, 0.4, 0.25, 0.05])
    image = tones[cell] + 0.05 * smooth_noise(draw, shape, 4) + 0.03 * smooth_noise(draw, shape, 20)
    organic = top_share(smooth_noise(draw, shape, draw.uniform(15, 30)), 0.06) & ~pore
    image = _mix(image, 0.24 + 0.01 * smooth_noise(draw, shape, 10), soften(organic, 1.5))
    outside = ndimage.distance_transform_edt(~pore)
    image += draw.uniform(0.15, 0.35) * np.exp(-outside / 2.5)
    inside = ndimage.distance_transform_edt(pore)
    floor = 0.1 + 0.2 * np.exp(-inside / 3) + 0.03 * smooth_noise(draw, shape, 6)
    image = _mix(image, floor, soften(pore, 0.8))
    return _finish(draw, image * _shading(draw, shape, 0.25), blur=0.7, noise=0.05)


def photo(draw: np.random.Generator, pore: Mask) -> NDArray[np.float32]:
    """Photographed surface in slanting light: shadows of bumps and flat stains are the distractors."""
    shape = pore.shape
    ground = np.array(draw.choice([(0.55, 0.42, 0.3), (0.62, 0.58, 0.52), (0.5, 0.36, 0.28)]))
    relief = 3 * smooth_noise(draw, shape, 14) + smooth_noise(draw, shape, 4)
    relief -= 9 * ndimage.gaussian_filter(pore.astype(np.float32), 2)
    slope = np.gradient(relief)
    turn = draw.uniform(0, 2 * np.pi)
    light = 1 + 0.22 * (np.cos(turn) * slope[0] + np.sin(turn) * slope[1])
    image = ground * np.clip(light, 0.25, 1.6)[..., None]
    image *= 1 + 0.1 * smooth_noise(draw, shape, 2)[..., None]
    image *= 1 + 0.15 * smooth_noise(draw, shape, 60)[..., None]
    stain = top_share(smooth_noise(draw, shape, 35), 0.05)
    image *= 1 - 0.5 * soften(stain, 5)[..., None] * np.array([0.8, 1.0, 1.1])
    inside = ndimage.distance_transform_edt(pore)
    wall = np.clip(1 - inside / draw.uniform(6, 12), 0, 1)[..., None]
    hole = ground * (0.16 + 0.3 * wall * np.clip(light, 0.3, 1.5)[..., None])
    image = _mix(image, hole, soften(pore, 1.2)[..., None])
    return _finish(draw, image * _shading(draw, shape, 0.3)[..., None], blur=0.8, noise=0.02)


def ct(draw: np.random.Generator, pore: Mask) -> NDArray[np.float32]:
    """CT slice of a core: dark pores in gray grains; rings, clay and the air outside distract."""
    shape = pore.shape
    cell, edge = grains(draw, shape, draw.uniform(25, 40))
    tones = draw.choice([0.55, 0.6, 0.66, 0.95], cell.max() + 1, p=[0.4, 0.35, 0.22, 0.03])
    image = tones[cell] - 0.06 * np.exp(-edge / 3)
    clay = top_share(smooth_noise(draw, shape, 10), 0.07) & ~pore
    image = _mix(image, np.float32(0.42), soften(clay, 1.5))
    image = _mix(image, np.float32(0.22), soften(pore, 1.2))
    radius = _radius(shape)
    rings = draw.normal(0, 0.025, int(radius.max()) + 1)[radius.astype(int)]
    image += rings + 0.06 * (radius / radius.max()) ** 2  # beam hardening brightens the rim
    image = np.where(core(shape), image, 0.12)
    return _finish(draw, image, blur=0.9, noise=0.04)


def core(shape: tuple[int, int]) -> Mask:
    """Mask (H, W) of the round core, the specimen, in a CT slice."""
    return _radius(shape) < 0.47 * min(shape)


def _radius(shape: tuple[int, int]) -> Field:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - shape[0] / 2, cols - shape[1] / 2).astype(np.float32)


def _mix(ground: Values, over: Values | np.floating, share: Values) -> Values:
    """One image over another, by the share of the upper."""
    return ground * (1 - share) + over * share


def _shading(draw: np.random.Generator, shape: tuple[int, int], depth: float) -> Field:
    """Uneven light over the whole field of view."""
    return (1 + depth * smooth_noise(draw, shape, max(shape) / 3) / 2).astype(np.float32)


def _finish(
    draw: np.random.Generator, image: Values, *, blur: float, noise: float
) -> NDArray[np.float32]:
    sigma = (blur, blur, 0)[: image.ndim]
    seen = ndimage.gaussian_filter(image.astype(np.float32), sigma)
    grain = draw.standard_normal(image.shape, dtype=np.float32)
    noisy = seen + noise * grain * np.sqrt(np.clip(seen, 0.05, 1))
    return np.clip(noisy, 0, 1).astype(np.float32)


MODALITIES: dict[str, Modality] = {"section": section, "sem": sem, "photo": photo, "ct": ct}
