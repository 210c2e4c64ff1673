"""The training loss: Dice for the overlap, cross-entropy for every pixel."""

import torch.nn.functional as F
from torch import Tensor

from poreseg.classes import PORE, UNKNOWN

SMOOTH_PX = 16.0  # a crop with a pore of a few pixels must not outweigh the others


def dice_and_bce(logits: Tensor, label: Tensor) -> Tensor:
    """Sum of Dice loss and mean binary cross-entropy, both over known pixels.

    Dice is computed per crop and averaged over crops with pores: over the whole batch,
    crops full of pores would outweigh those with few, whereas the score is a mean over
    images.

    Parameters
    ----------
    logits, label
        (N, 1, H, W) float and uint8 of 0, 1 and 255 unknown.
    """
    known, pore = (label != UNKNOWN).float(), (label == PORE).float()
    bce = F.binary_cross_entropy_with_logits(logits, pore, reduction="none") * known
    found = logits.sigmoid() * known
    area = (1, 2, 3)
    overlap = 2 * (found * pore).sum(area) + SMOOTH_PX
    dice = 1 - overlap / (found.sum(area) + pore.sum(area) + SMOOTH_PX)
    holds = pore.sum(area) > 0
    mean_dice = (dice * holds).sum() / holds.sum().clamp(min=1)
    return mean_dice + bce.sum() / known.sum().clamp(min=1)
