"""Synthetic specimens of random appearance, for a network to learn pores before it sees an image.

Everything that a microscope, a camera or a material may change is random (domain
randomisation, Tobin et al. 2017); only what makes a pore a pore stays: a hole of some shape
in a matrix, darker, dyed or brighter than it, among things that are not pores.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from poreseg.drawn import fields
from poreseg.drawn.fields import (
    Fabric,
    Field,
    Mask,
    Shape,
    blur,
    distance_to,
    grains,
    places,
    smooth_noise,
    soften,
    top_share,
)  # fmt: skip

Picture = NDArray[np.float32]  # (H, W, 3), about 0..1
Colour = NDArray[np.float32]  # (3)
Draw = np.random.Generator

FORMS: tuple[Callable[[Draw, Shape, float, float], Mask], ...] = (
    fields.patches, fields.ellipses, fields.bubbles, fields.gaps, fields.cracks,
)  # fmt: skip
GRAINY, PACKED = 0.7, 0.2  # share of specimens with grains, with pores between grains
KINDS = ("dark", "dyed", "bright")
SHARES, OF_PACKED = (0.66, 0.24, 0.1), (0.45, 0.45, 0.1)  # of kinds; packed grains are often dyed
LEAST_CONTRAST = 0.15  # of dark pores to the matrix; below it nobody would outline them
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5  # of gray levels, that become black and white


def draw_anything(draw: Draw, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A specimen: contrast-stretched image (S, S, 3) and exact label (S, S), uint8."""
    shape = (side, side)
    fabric = grains(draw, shape, _log_uniform(draw, 10, 80)) if draw.random() < GRAINY else None
    packed = fabric if draw.random() < PACKED / GRAINY else None
    kind = KINDS[draw.choice(len(KINDS), p=OF_PACKED if packed else SHARES)]
    if packed:
        pore = fields.packing(draw, packed, _log_uniform(draw, 0.05, 0.45))
    else:
        pore = _pores(draw, shape)
    image, tone = _matrix(draw, shape, fabric, kind)
    image = _distractors(draw, image, tone, pore, kind)
    image = _fill(draw, image, tone, pore, kind)
    if draw.random() < 0.2:
        image, pore = _beside_the_specimen(draw, image, pore)
    image = _seen(draw, image, kind)
    return _stretched(image), pore.astype(np.uint8)


def _pores(draw: Draw, shape: Shape) -> Mask:
    """Pores of one or two forms, each about 1 to 30 % of the image; seldom none."""
    pore = np.zeros(shape, bool)
    if draw.random() < 0.04:
        return pore
    for _ in range(draw.integers(1, 3)):
        form = FORMS[draw.choice(len(FORMS), p=[0.25, 0.25, 0.15, 0.25, 0.1])]
        pore |= form(draw, shape, _log_uniform(draw, 0.008, 0.3), _log_uniform(draw, 3, 26))
    return pore


def _matrix(draw: Draw, shape: Shape, fabric: Fabric | None, kind: str) -> tuple[Picture, Colour]:
    """The solid (H, W, 3): grains, layers, texture, gray or coloured; and its base colour (3)."""
    tone = np.full(3, draw.uniform(0.35, 0.9))
    colourful = draw.random() < 0.5
    if colourful:
        tone = np.clip(tone * (1 + draw.normal(0, 0.12, 3)), 0.2, 1)
    tone = tone.astype(np.float32)
    contrast = _log_uniform(draw, 0.02, 0.2)
    image = np.broadcast_to(tone, (*shape, 3))
    if fabric:
        cell, edge = fabric
        number = int(cell.max()) + 1
        tones = draw.normal(0, contrast, (number, 1)) * np.ones(3)
        if colourful:
            tones += draw.normal(0, contrast / 3, (number, 3))
        image = image + tones.astype(np.float32)[cell]
        if draw.random() < 0.5:
            image = _other_minerals(draw, image, tone, cell, kind)
        if draw.random() < 0.5:  # seams between grains, dark or bright
            seam = np.exp(-edge / draw.uniform(0.7, 3))
            image = image + _either(draw, -1, 1, 0.25) * draw.uniform(0.05, 0.25) * seam[..., None]
    if draw.random() < 0.25:  # layers, as printed, rolled or deposited
        image = image + contrast * _stripes(draw, shape)[..., None]
    for scale in (_log_uniform(draw, 1.5, 6), _log_uniform(draw, 6, 50)):
        image = image + contrast * draw.uniform(0.1, 0.8) * smooth_noise(draw, shape, scale)[..., None]  # fmt: skip
    return image, tone


def _other_minerals(
    draw: Draw, image: Picture, tone: Colour, cell: NDArray[np.int32], kind: str
) -> Picture:
    """Some grains of another texture, browner, mostly darker, though paler than dark pores if any."""
    number = int(cell.max()) + 1
    other = (draw.random(number) < draw.uniform(0.03, 0.3)).astype(np.float32)
    brown = np.sort(draw.normal(0, 0.12, (number, 3)))[:, ::-1]  # rust and mica lack blue
    tint = draw.uniform(0.6 if kind == "dark" else 0.15, 1.1, (number, 1)) + brown
    texture = draw.uniform(0, 0.15) * smooth_noise(draw, cell.shape, _log_uniform(draw, 1.5, 6))
    share = other * draw.uniform(0.6, 1, number).astype(np.float32)
    seen = (tone * tint).astype(np.float32)[cell] + texture[..., None]
    return np.asarray(image + share[cell][..., None] * (seen - image))


def _distractors(draw: Draw, image: Picture, tone: Colour, pore: Mask, kind: str) -> Picture:
    """Adds what may be mistaken for pores: inclusions, stains, scratches."""
    shape = pore.shape
    if kind != "dark" and draw.random() < 0.5:  # opaque grains: black, while pores are not
        found = fields.ellipses(draw, shape, _log_uniform(draw, 0.01, 0.08), _log_uniform(draw, 4, 20))  # fmt: skip
        image = _over(image, tone * draw.uniform(0.05, 0.4), found & ~pore, 0.8)
    if draw.random() < 0.5:  # inclusions: as a rule closer to the matrix than pores
        form = FORMS[draw.integers(3)]
        found = form(draw, shape, _log_uniform(draw, 0.01, 0.1), _log_uniform(draw, 4, 30)) & ~pore
        colour = tone * _either(draw, draw.uniform(0.55, 0.85), draw.uniform(1.15, 1.7))
        image = _over(image, colour + 0.03 * smooth_noise(draw, shape, 3)[..., None], found, 0.8)
    if draw.random() < 0.3:  # stains and shadows: no edges
        found = top_share(smooth_noise(draw, shape, _log_uniform(draw, 12, 60)), draw.uniform(0.02, 0.2))  # fmt: skip
        soft = soften(found, draw.uniform(4, 12))[..., None]
        image = image * (1 - draw.uniform(0.15, 0.55) * soft)
    if draw.random() < 0.15:  # scratches: thinner than any pore
        stripes = np.abs(_stripes(draw, shape)) < 0.02
        image = image + draw.uniform(-0.2, 0.3) * soften(stripes, 0.6)[..., None]
    return image


def _fill(draw: Draw, image: Picture, tone: Colour, pore: Mask, kind: str) -> Picture:
    """Pores as dark holes, dyed, or bright (back light, fluorescence), with walls and rims."""
    shape = pore.shape
    if kind == "dark":
        colour = tone * draw.uniform(0.02, 0.6)
        colour = np.minimum(colour, tone - LEAST_CONTRAST)
    elif kind == "bright":
        colour = tone + draw.uniform(0.3, 0.6)
    else:
        colour = _dye(draw)
    ground = colour + draw.uniform(0, 0.05) * smooth_noise(draw, shape, _log_uniform(draw, 2, 15))[..., None]  # fmt: skip
    if kind == "dark" and draw.random() < 0.5:  # the pore's floor shows too, but darker
        depths = 1 + 0.5 * smooth_noise(draw, shape, _log_uniform(draw, 3, 20))[..., None]
        ground = ground + draw.uniform(0, 0.35) * np.clip(depths, 0, 1.5) * (image - colour)
    if kind == "dark" and draw.random() < 0.25:
        ground = ground + _glints(draw, shape)
    share = np.full(shape, draw.uniform(0.6, 1) if kind == "dyed" else 1.0, np.float32)
    if kind == "dark":  # walls that slope into the pore
        inside = distance_to(~pore)
        share -= draw.uniform(0, 0.75) * np.exp(-inside / _log_uniform(draw, 1, 10))
    filled = ground * share[..., None] + image * (1 - share[..., None])
    if draw.random() < 0.3:  # charging, or a shadow, at the rim
        rim = np.exp(-distance_to(pore) / draw.uniform(1, 4))
        image = image + _either(draw, -0.15, 0.2) * rim[..., None]
    return _over(image, filled, pore, draw.uniform(0.3, 1.5))


def _glints(draw: Draw, shape: Shape) -> Picture:
    """Specks of reflected light."""
    specks = top_share(
        smooth_noise(draw, shape, _log_uniform(draw, 1, 3)), draw.uniform(0.02, 0.12)
    )
    return draw.uniform(0.2, 0.8) * soften(specks, 0.5)[..., None]


def _dye(draw: Draw) -> Colour:
    """A colour, from strong to pale."""
    colour = draw.uniform(0, 0.45, 3)
    strong = draw.permutation(3)[: draw.integers(1, 3)]
    colour[strong] = draw.uniform(0.55, 1.0, len(strong))
    colour += draw.uniform(0, 0.6) * (colour.mean() - colour)
    return np.asarray(colour * draw.uniform(0.6, 1.0), np.float32)


def _beside_the_specimen(draw: Draw, image: Picture, pore: Mask) -> tuple[Picture, Mask]:
    """Covers a part with bed, holder or background, often dark and labelled matrix."""
    rows, cols = (each / max(pore.shape) - 0.5 for each in places(pore.shape))
    turn = draw.uniform(0, 2 * np.pi)
    beyond = rows * np.sin(turn) + cols * np.cos(turn) > draw.uniform(0.05, 0.35)
    texture = smooth_noise(draw, pore.shape, _log_uniform(draw, 2, 12))
    ground = np.full((*pore.shape, 3), draw.uniform(0, 0.5)) + draw.uniform(0, 0.12) * texture[..., None]  # fmt: skip
    if draw.random() < 0.3:
        ground = ground + _glints(draw, pore.shape)
    return _over(image, ground, beyond, 1.0), pore & ~beyond


def _seen(draw: Draw, image: Picture, kind: str) -> Picture:
    """What optics and detector add: uneven light, rings, blur, noise, dropped colour."""
    shape = image.shape[:2]
    light = smooth_noise(draw, shape, max(shape) / 3)
    light = np.asarray(1 + draw.uniform(0, 0.15) * light, np.float32)
    if draw.random() < 0.25:  # light from the side
        light = light * (1 + draw.uniform(0.03, 0.15) * _relief(draw, shape))
    image = image * light[..., None]
    if draw.random() < 0.1:  # rings of a CT
        rows, cols = places(shape)
        centre = draw.uniform(-0.5, 1.5, 2) * shape
        radius = np.hypot(rows - centre[0], cols - centre[1]).astype(int)
        image = image + draw.normal(0, 0.03, radius.max() + 1)[radius][..., None]
    if draw.random() < (0.15 if kind == "dyed" else 0.5):
        image = np.broadcast_to(image.mean(axis=-1, keepdims=True), image.shape)
    image = blur(image, draw.uniform(0.1, 1.5))
    grain = draw.standard_normal((*shape, 3 if draw.random() < 0.3 else 1), dtype=np.float32)
    if draw.random() < 0.4:
        grain = 2 * blur(grain, 0.8).reshape(grain.shape)
    return image + _log_uniform(draw, 0.004, 0.08) * grain


def _stretched(image: Picture) -> NDArray[np.uint8]:
    """An image, stretched between its percentiles as ingest does."""
    low, high = np.percentile(image[::2, ::2], [LOW_PERCENTILE, HIGH_PERCENTILE])
    return (np.clip((image - low) / max(high - low, 1e-3), 0, 1) * 255).astype(np.uint8)


def _stripes(draw: Draw, shape: Shape) -> Field:
    """Waves of -1..1 along a random direction, a little bent."""
    rows, cols = places(shape)
    turn = draw.choice([0, np.pi / 2, draw.uniform(0, np.pi)])
    along = rows * np.sin(turn) + cols * np.cos(turn) + draw.uniform(0, 4) * smooth_noise(draw, shape, 40)  # fmt: skip
    return np.asarray(np.sin(2 * np.pi * along / _log_uniform(draw, 6, 60)), np.float32)


def _relief(draw: Draw, shape: Shape) -> Field:
    """Shading (H, W) of a rough surface lit from the side; mean about 0, deviation 1."""
    height = smooth_noise(draw, shape, _log_uniform(draw, 3, 20))
    turn = draw.uniform(0, 2 * np.pi)
    slope = np.gradient(height)
    light = np.cos(turn) * slope[0] + np.sin(turn) * slope[1]
    return np.asarray(light / light.std(), np.float32)


def _over(image: Picture, above: NDArray[np.floating], area: Mask, sigma: float) -> Picture:
    """One image over another in an area, its edges blurred by `sigma`."""
    share = soften(area, sigma)[..., None]
    return np.asarray(image * (1 - share) + above * share, np.float32)


def _either(draw: Draw, one: float, other: float, chance: float = 0.5) -> float:
    """`other` with probability `chance`, else `one`."""
    return other if draw.random() < chance else one


def _log_uniform(draw: Draw, low: float, high: float) -> float:
    return float(np.exp(draw.uniform(np.log(low), np.log(high))))
