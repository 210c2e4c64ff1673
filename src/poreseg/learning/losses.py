"""What training makes small: Dice for the overlap, cross-entropy for every pixel."""

import torch.nn.functional as F
from segmentation_models_pytorch.losses import BINARY_MODE, DiceLoss
from torch import Tensor

from poreseg.classes import UNKNOWN

_dice = DiceLoss(BINARY_MODE, from_logits=True, ignore_index=UNKNOWN)


def dice_and_bce(logits: Tensor, label: Tensor) -> Tensor:
    """Sum of Dice loss (over the batch) and mean binary cross-entropy of the known pixels.

    Parameters
    ----------
    logits, label
        (N, 1, H, W) float and uint8 of 0, 1 and 255 unknown.
    """
    known = label != UNKNOWN
    target = label.to(logits.dtype)
    bce = F.binary_cross_entropy_with_logits(logits, target.clamp(max=1), reduction="none")
    loss: Tensor = _dice(logits, target) + (bce * known).sum() / known.sum().clamp(min=1)
    return loss
