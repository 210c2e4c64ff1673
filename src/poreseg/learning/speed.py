"""Faster training on a processor: slow operations, computed another way.

Nothing here changes what a network computes, beyond rounding. Gains:
benchmarks/precision.py and benchmarks/training.py.
"""

from itertools import product
from typing import Any

import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

Sides = tuple[int, int]  # px, of rows and of columns
PART = 3  # px, largest depthwise kernel with a fast bf16 gradient in oneDNN


def speed_up(network: nn.Module, device: torch.device, precision: str) -> None:
    """Change, in place, how a network trains on a processor, but not what it computes."""
    if device.type != "cpu":
        return
    for part in network.modules():
        if type(part) is UnetDecoderBlock and _is_plain(part):
            _mix_in(_Doubling, part)
        elif isinstance(part, nn.ReLU6):
            part.inplace = False  # in place, it first copies its input for the gradient
        elif precision == "bf16-mixed" and isinstance(part, nn.Conv2d) and _is_depthwise(part):
            _mix_in(_Depthwise, part)


def _mix_in(way: type, part: nn.Module) -> None:
    kind = type(part)
    part.__class__ = type(kind.__name__, (way, kind), {})


def _is_depthwise(part: nn.Conv2d) -> bool:
    """Whether it is depthwise, unbiased, dense, zero-padded, from `PART` px on, of a known type."""
    known = type(part) in (nn.Conv2d, Conv2dSame) and part.bias is None
    zeros = part.padding_mode == "zeros" and not isinstance(part.padding, str)
    dense = part.dilation == (1, 1) and min(part.kernel_size) >= PART
    return known and zeros and dense and part.groups == part.in_channels > 1


def _is_plain(block: UnetDecoderBlock) -> bool:
    """Whether a block doubles by repeating pixels, and attends to nothing."""
    return block.interpolation_mode == "nearest" and not list(block.attention1.parameters())


class _Depthwise:
    """Trains a depthwise convolution in bf16."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:  # type: ignore[attr-defined]
            return super().forward(images)  # type: ignore[misc]
        part: nn.Conv2d = self  # type: ignore[assignment]
        images = images.to(torch.bfloat16)
        if isinstance(part, Conv2dSame):  # it has TensorFlow's padding, which is uneven
            images = pad_same(images, part.kernel_size, part.stride)
        found: Tensor = _DepthwiseInBf16.apply(images, part.weight, part.stride, part.padding)
        return found


class _DepthwiseInBf16(torch.autograd.Function):
    """A depthwise convolution in bf16, whose gradients use oneDNN's fast kernels.

    In bf16, those of strided images and of weights above 3 px have none, and are up to twenty
    times slower than in fp32. So the former are computed in fp32, the latter in parts.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Sides, padding: Sides) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight.to(images.dtype), None, stride, padding, 1, images.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (images, weight), stride, padding = ctx.saved_tensors, ctx.stride, ctx.padding
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            dtype = torch.float32 if max(stride) > 1 else images.dtype
            shape = torch.empty_like(images, dtype=dtype)  # only shape is used
            found, _ = _backward(gradient.to(dtype), shape, weight.to(dtype), stride, padding, [True, False])  # fmt: skip
            of_images = found.to(images.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, images, weight, stride, padding)
        return of_images, of_weight, None, None


def _of_weight(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: Sides, padding: Sides
) -> Tensor:
    """The gradient of a kernel, in parts, each from images shifted by the part's offset."""
    part = weight.new_empty(len(weight), 1, PART, PART, dtype=images.dtype)
    if weight.shape == part.shape:
        return _backward(gradient, images, part, stride, padding, [False, True])[1].to(weight.dtype)
    rows, cols = ((size - 1) * step + PART for size, step in zip(gradient.shape[2:], stride, strict=True))  # fmt: skip
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    found = torch.empty_like(weight)
    for top, left in product(*(_starts(size) for size in weight.shape[2:])):
        moved = padded[:, :, top : top + rows, left : left + cols]
        moved = moved.contiguous(memory_format=torch.channels_last)
        _, one = _backward(gradient, moved, part, stride, (0, 0), [False, True])
        found[:, :, top : top + PART, left : left + PART] = one
    return found


def _starts(size: int) -> list[int]:
    """Where the parts of a kernel start; the last may lie on the one before.

    >>> _starts(5), _starts(7)
    ([0, 2], [0, 3, 4])
    """
    return [min(start, size - PART) for start in range(0, size, PART)]


def _backward(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: Sides, padding: Sides, wanted: list[bool]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of a depthwise convolution's images and weight, where wanted."""
    of_images, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, stride, padding, (1, 1), False, (0, 0), images.shape[1],
        [*wanted, False],
    )  # fmt: skip
    return of_images, of_weight


class _Doubling:
    """A block of smp's U-Net decoder: doubles the layer below and joins the skip connection.

    Doubling and a 3 x 3 convolution are one transposed convolution: of the nine pixels at most
    four differ. So the layer below takes four ninths of the work; nothing doubled or joined is stored.
    """

    def forward(
        self, below: Tensor, height: int, width: int, skip_connection: Tensor | None = None
    ) -> Tensor:
        if not self.training or (height, width) != (2 * below.shape[2], 2 * below.shape[3]):  # type: ignore[attr-defined]
            return super().forward(below, height, width, skip_connection)  # type: ignore[misc]
        block: UnetDecoderBlock = self
        convolve, *rest = block.conv1
        of_below, of_beside = convolve.weight.tensor_split([below.shape[1]], 1)
        # each weight applies to both rows and both columns of a doubled pixel
        spread = F.pad(of_below.flip(2, 3), (1, 1, 1, 1))
        spread = F.avg_pool2d(spread, kernel_size=2, stride=1, divisor_override=1).transpose(0, 1)
        found = F.conv_transpose2d(below, spread, convolve.bias, stride=2, padding=1)
        if skip_connection is not None:
            found += F.conv2d(skip_connection, of_beside, padding=1)
        for part in (*rest, block.conv2):
            found = part(found)
        return found
