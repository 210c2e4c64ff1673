"""Random fields and shapes, all from one generator, so that a seed draws the same again."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.draw import disk, ellipse, line
from skimage.morphology import remove_small_holes, remove_small_objects

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = tuple[int, int]  # H, W


def smooth_noise(draw: np.random.Generator, shape: Shape, scale: float) -> Field:
    """Gaussian random field (H, W) of mean 0 and deviation 1; `scale` px is its grain."""
    step = max(1, int(scale / 3))  # drawn coarse, then enlarged: the same field, much faster
    coarse = (-(-shape[0] // step) + 4, -(-shape[1] // step) + 4)
    field = ndimage.gaussian_filter(draw.standard_normal(coarse), scale / step, mode="reflect")
    field = ndimage.zoom(field, step, order=1)[: shape[0], : shape[1]]
    return ((field - field.mean()) / field.std()).astype(np.float32)


def top_share(field: Field, share: float) -> Mask:
    """The pixels where a field is highest, a given share of them."""
    return field >= np.quantile(field[::4, ::4], 1 - share)


def soften(mask: Mask, sigma: float) -> Field:
    """A mask's edges as an optic shows them: half way at its border."""
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma)


def patches(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Branching pores: the top of a random field of two grains."""
    field = smooth_noise(draw, shape, scale) + 0.35 * smooth_noise(draw, shape, scale / 3)
    return clean(top_share(field, porosity), scale)


def ellipses(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Boolean model: ellipses of log-normal size, anywhere and overlapping, bent at the rim."""
    pore = np.zeros(shape, bool)
    while pore.mean() < porosity:
        size = min(draw.lognormal(np.log(scale), 0.5), min(shape) / 5)
        row, col = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        stretch, turn = draw.uniform(0.4, 1.0), draw.uniform(0, np.pi)
        pore[ellipse(row, col, size, size * stretch, shape, turn)] = True
    return clean(_bend(draw, pore, scale), scale)


def bubbles(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Round pores of widely spread sizes that do not overlap."""
    pore = np.zeros(shape, bool)
    for _ in range(4000):
        if pore.mean() >= porosity:
            break
        radius = min(draw.lognormal(np.log(scale), 0.6), min(shape) / 6)
        centre = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        around = disk(centre, radius + 3, shape=shape)
        if not pore[around].any():
            pore[disk(centre, radius, shape=shape)] = True
    return clean(_bend(draw, pore, scale / 3), scale)


def gaps(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Angular pores between grains: where Voronoi cells meet, wider here, closed there."""
    edge = grains(draw, shape, 3 * scale)[1]
    field = -edge / scale + 0.8 * smooth_noise(draw, shape, 4 * scale)
    return clean(top_share(field.astype(np.float32), porosity), scale)


def cracks(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Long thin pores that wander and taper."""
    pore = np.zeros(shape, bool)
    while pore.mean() < porosity:
        row, col, angle = (
            draw.uniform(0, shape[0]),
            draw.uniform(0, shape[1]),
            draw.uniform(0, 2 * np.pi),
        )
        width, steps = draw.uniform(0.15, 0.5) * scale, int(draw.integers(15, 50))
        for i in range(steps):
            angle += draw.normal(0, 0.25)
            to = row + np.sin(angle) * scale, col + np.cos(angle) * scale
            rows, cols = line(round(row), round(col), round(to[0]), round(to[1]))
            half = width * (1 - abs(2 * i / steps - 1)) + 1
            for r, c in zip(rows[::2], cols[::2], strict=True):
                if -20 < r < shape[0] + 20 and -20 < c < shape[1] + 20:
                    pore[disk((r, c), half, shape=shape)] = True
            row, col = to
    return clean(pore, scale / 2)


def grains(
    draw: np.random.Generator, shape: Shape, scale: float
) -> tuple[NDArray[np.int64], Field]:
    """A grain fabric: Voronoi cell (H, W) of each pixel, and its distance to the cell's rim."""
    count = max(8, int(shape[0] * shape[1] / scale**2))
    seeds = draw.uniform(-0.1, 1.1, (count, 2)) * shape
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    rows += 0.15 * scale * smooth_noise(draw, shape, scale / 3)  # grains have no straight sides
    cols += 0.15 * scale * smooth_noise(draw, shape, scale / 3)
    distance, cell = cKDTree(seeds).query(np.stack([rows, cols], -1), k=2)  # one core: others train
    return cell[..., 0], (distance[..., 1] - distance[..., 0]).astype(np.float32)


def clean(pore: Mask, scale: float) -> Mask:
    """Without specks and pinholes too small for a person to outline."""
    least = max(12, int(scale**2 / 8))
    return remove_small_holes(remove_small_objects(pore, max_size=least), max_size=least)


def _bend(draw: np.random.Generator, mask: Mask, reach: float) -> Mask:
    """The same shapes with their outlines bent by up to about `reach` px."""
    rows, cols = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    rows += 0.4 * reach * smooth_noise(draw, mask.shape, 1.5 * reach)
    cols += 0.4 * reach * smooth_noise(draw, mask.shape, 1.5 * reach)
    return (
        ndimage.map_coordinates(mask.astype(np.float32), [rows, cols], order=1, mode="nearest")
        > 0.5
    )
