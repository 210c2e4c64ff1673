"""Random fields and shapes, all from one generator, so that a seed draws the same again."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import remove_small_holes, remove_small_objects

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = tuple[int, int]  # H, W
Fabric = tuple[NDArray[np.int32], Field]  # see `grains`
FINE = 4  # fractional bits of OpenCV's coordinates
EDGE = cv2.BORDER_REPLICATE


def smooth_noise(draw: np.random.Generator, shape: Shape, scale: float) -> Field:
    """Gaussian random field (H, W), mean 0, deviation 1, blurred with sigma `scale` px."""
    step = max(1, int(scale / 3))  # coarse, then enlarged: nearly the same, much faster
    coarse = (-(-shape[0] // step) + 4, -(-shape[1] // step) + 4)
    small = blur(draw.standard_normal(coarse, np.float32), scale / step)
    field = cv2.resize(small, None, fx=step, fy=step)[: shape[0], : shape[1]]
    mean, deviation = cv2.meanStdDev(field)
    return np.asarray((field - np.float32(mean)) / np.float32(deviation))


def blur(image: NDArray[np.floating], sigma: float) -> Field:
    """An image (H, W[, C]), Gaussian-blurred by `sigma` px, border mirrored; C = 1 is dropped."""
    image = image.astype(np.float32, copy=False)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def top_share(field: Field, share: float) -> Mask:
    """Mask of the highest values of a field, about `share` of them."""
    return field >= np.quantile(field[::4, ::4], 1 - share)


def soften(mask: Mask, sigma: float) -> Field:
    """A mask blurred by `sigma` px, as by optics: 0.5 at its border."""
    return blur(mask.astype(np.float32), sigma)


def distance_to(mask: Mask) -> Field:
    """How far each pixel (H, W) is from a mask, px; very far where the mask is empty."""
    found = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(found)


def patches(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Branching pores: the highest values of noise at two scales."""
    field = smooth_noise(draw, shape, scale) + 0.35 * smooth_noise(draw, shape, scale / 3)
    return clean(top_share(field, porosity), scale)


def ellipses(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Boolean model: ellipses of log-normal size, anywhere and overlapping, bent at the rim."""
    pore = np.zeros(shape, np.uint8)
    while np.count_nonzero(pore) < porosity * pore.size:
        size = min(draw.lognormal(np.log(scale), 0.5), min(shape) / 5)
        row, col = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        stretch, turn = draw.uniform(0.4, 1.0), draw.uniform(0, 180)
        cv2.ellipse(pore, ((col, row), (2 * size, 2 * size * stretch), turn), 1, cv2.FILLED)
    return clean(_bend(draw, pore, scale), scale)


def bubbles(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Round pores of widely spread sizes that do not overlap."""
    pore = np.zeros(shape, np.uint8)
    placed = np.empty((0, 3))  # row, col, radius
    for _ in range(4000):
        if np.count_nonzero(pore) >= porosity * pore.size:
            break
        radius = min(draw.lognormal(np.log(scale), 0.6), min(shape) / 6)
        row, col = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        apart = np.hypot(row - placed[:, 0], col - placed[:, 1]) - placed[:, 2]
        if (apart > radius + 3).all():
            placed = np.vstack([placed, (row, col, radius)])
            _disk(pore, row, col, radius)
    return clean(_bend(draw, pore, scale / 3), scale)


def gaps(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Angular pores between grains: along Voronoi borders, wide or closed in places."""
    edge = grains(draw, shape, 3 * scale)[1]
    field = -edge / scale + 0.8 * smooth_noise(draw, shape, 4 * scale)
    return clean(top_share(field.astype(np.float32), porosity), scale)


def cracks(draw: np.random.Generator, shape: Shape, porosity: float, scale: float) -> Mask:
    """Long thin pores that wander and taper."""
    pore = np.zeros(shape, np.uint8)
    while np.count_nonzero(pore) < porosity * pore.size:
        row, col = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        width, steps = draw.uniform(0.15, 0.5) * scale, int(draw.integers(15, 50))
        angle = draw.uniform(0, 2 * np.pi) + np.cumsum(draw.normal(0, 0.25, steps))
        rows, cols = row + scale * np.cumsum(np.sin(angle)), col + scale * np.cumsum(np.cos(angle))
        along = np.arange(0, steps, 1 / scale)  # a disk at every pixel of the way
        half = width * (1 - np.abs(2 * along / steps - 1)) + 1
        way = (np.interp(along, np.arange(steps), each) for each in (rows, cols))
        for row, col, radius in zip(*way, half, strict=True):
            _disk(pore, row, col, radius)
    return clean(pore > 0, scale / 2)


def packing(draw: np.random.Generator, fabric: Fabric, porosity: float) -> Mask:
    """Pores between a fabric's grains, of which some touch, some do not, a few are missing."""
    cell, edge = fabric
    number = int(cell.max()) + 1
    scale = np.sqrt(cell.size / number)
    apart = draw.normal(0, 0.3, number).astype(np.float32)
    missing = draw.random(number) < draw.uniform(0, porosity / 3)
    field = np.where(missing[cell], np.float32(1), apart[cell] - edge / edge.mean())
    field = blur(field, scale / 12) + 0.3 * smooth_noise(draw, cell.shape, scale / 2)
    return clean(top_share(field, porosity), scale / 4)


def grains(draw: np.random.Generator, shape: Shape, scale: float) -> Fabric:
    """Grain fabric (H, W): Voronoi cell numbers, and twice the distance to a cell's border, px.

    On the line between two seeds that is the difference of the distances to both.
    """
    count = max(8, int(shape[0] * shape[1] / scale**2))
    margin = [length // 10 for length in shape]
    seeds = np.ones(
        [length + 2 * edge for length, edge in zip(shape, margin, strict=True)], np.uint8
    )
    seeds[draw.integers(0, seeds.shape[0], count), draw.integers(0, seeds.shape[1], count)] = 0
    _, cell = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    inside = np.ones_like(seeds)
    inside[1:] &= cell[1:] == cell[:-1]
    inside[:, 1:] &= cell[:, 1:] == cell[:, :-1]
    edge = 2 * cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    rows, cols = places(shape)
    # grains have no straight sides
    rows = rows + (margin[0] + 0.15 * scale * smooth_noise(draw, shape, scale / 3))
    cols = cols + (margin[1] + 0.15 * scale * smooth_noise(draw, shape, scale / 3))
    bent = cv2.remap(cell.astype(np.float32), cols, rows, cv2.INTER_NEAREST, borderMode=EDGE)
    away = cv2.remap(edge, cols, rows, cv2.INTER_LINEAR, borderMode=EDGE)
    return bent.astype(np.int32) - 1, np.asarray(away)


def places(shape: Shape) -> tuple[Field, Field]:
    """Rows (H, 1) and columns (1, W) of pixels."""
    rows, cols = (np.arange(length, dtype=np.float32) for length in shape)
    return rows[:, None], cols[None]


def clean(pore: Mask, scale: float) -> Mask:
    """Without specks and pinholes too small for a person to outline."""
    least = max(12, int(scale**2 / 8))
    return remove_small_holes(remove_small_objects(pore, max_size=least), max_size=least)


def _bend(draw: np.random.Generator, mask: NDArray[np.uint8], reach: float) -> Mask:
    """The same shapes with their outlines bent by up to about `reach` px."""
    rows, cols = places(mask.shape)
    rows = rows + 0.4 * reach * smooth_noise(draw, mask.shape, 1.5 * reach)
    cols = cols + 0.4 * reach * smooth_noise(draw, mask.shape, 1.5 * reach)
    bent = cv2.remap(mask.astype(np.float32), cols, rows, cv2.INTER_LINEAR, borderMode=EDGE)
    return np.asarray(bent > 0.5)


def _disk(pore: NDArray[np.uint8], row: float, col: float, radius: float) -> None:
    """Fill a disk, to a sixteenth of a pixel."""
    centre = round(col * 2**FINE), round(row * 2**FINE)
    cv2.circle(pore, centre, round(radius * 2**FINE), 1, cv2.FILLED, cv2.LINE_8, FINE)
