"""Moments: what a network's middle layers make of a picture, in two figures a channel."""

import torch
from torch import Tensor, nn


class MiddleLayers:
    """Listens to what comes into the second quarter of the batch norms of an smp network's encoder.

    Before them a picture is colours and edges, which are much the same in many materials;
    behind them it is what they mean. `there` says whether the encoder has any.
    """

    def __init__(self, network: nn.Module) -> None:
        parts = network.encoder.modules()  # type: ignore[union-attr]
        norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
        middle = norms[len(norms) // 4 : (len(norms) + 1) // 2]
        self.there = bool(middle)
        self._heard: list[Tensor] = []
        self._hooks = [norm.register_forward_pre_hook(self._hear) for norm in middle]

    def _hear(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float()
        self._heard.append(torch.stack([values.mean((2, 3)), (values**2).mean((2, 3))], dim=1))

    def moments(self) -> Tensor:
        """Mean and mean square (N, 2, C) of each channel over the pictures that were last seen."""
        found = torch.cat(self._heard, dim=2)
        self._heard.clear()
        return found

    def forget(self) -> None:
        """Listen no more."""
        for hook in self._hooks:
            hook.remove()
