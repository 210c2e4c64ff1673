"""Moments: mean and mean square of each channel in a network's middle layers."""

import torch
from torch import Tensor, nn


class MiddleLayers:
    """Records the inputs of the second quarter of batch norms in an smp network's encoder.

    Earlier layers hold colours and edges, which are much the same in many materials; later
    ones hold what they mean. `there`: the encoder has batch norms.
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
        """Mean and mean square (N, 2, C) of the channels, per image of the last forward pass."""
        found = torch.cat(self._heard, dim=2)
        self._heard.clear()
        return found

    def forget(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
