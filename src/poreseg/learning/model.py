"""The model: an smp U-Net with its preprocessing, as torch computes it."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor, nn

from poreseg.devices import VISIBLE, gpus
from poreseg.errors import PoresegError, warn
from poreseg.files import whole, write_json
from poreseg.learning.card import CARD, GRAPH, LOOKS, read_card, read_looks
from poreseg.learning.moments import MiddleLayers

OPSET = 18  # of ONNX; read by all runtimes since 2023
EVEN = 0.5  # probability that temperature scaling leaves as it is


@dataclass(frozen=True)
class Model:
    """A network with its card, which holds the normalisation it was trained with.

    `precision` is that of its predictions, in Lightning's names; `seen` are the looks of its
    training images, by name.
    """

    network: nn.Module
    card: dict[str, Any]
    precision: str = "32-true"
    seen: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def probabilities(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pore probabilities (N, H, W) of windows (N, H, W, 3) uint8; H and W are multiples of 32."""
        images = self._images(windows)
        with torch.inference_mode(), autocast(images.device, self.precision):
            found = torch.sigmoid(self.network(images).float())
        return found[:, 0].cpu().numpy()

    def moments(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean and mean square (N, 2, C) of the middle layers' channels over windows (N, H, W, 3).

        Without channels (C is 0) where the encoder has no batch norm.
        """
        middle = MiddleLayers(self.network)
        if not middle.there:
            return np.zeros((len(windows), 2, 0), np.float32)
        try:
            with torch.inference_mode():
                self.network.encoder(self._images(windows))  # type: ignore[operator]
            return middle.moments().cpu().numpy()
        finally:
            middle.forget()

    def _images(self, windows: NDArray[np.uint8]) -> Tensor:
        device = next(self.network.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(windows)).to(device)
        return normalise(pixels.permute(0, 3, 1, 2), self.card["mean"], self.card["std"])


class _FromPixels(nn.Module):
    """One graph from windows (N, H, W, 3) uint8 to probabilities (N, H, W) and, if wanted, moments."""

    def __init__(self, model: Model, *, moments: bool) -> None:
        super().__init__()
        self.network, self.card = model.network, model.card
        self.middle = MiddleLayers(self.network) if moments else None

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        images = normalise(windows.permute(0, 3, 1, 2), self.card["mean"], self.card["std"])
        probabilities = torch.sigmoid(self.network(images))[:, 0]
        return (probabilities, self.middle.moments()) if self.middle else (probabilities,)


def export_onnx(model: Model, path: Path | str, *, moments: bool = False) -> None:
    """Write a model as ONNX in fp32, with its preprocessing inside.

    Input `windows`: (N, H, W, 3) uint8, RGB between the raster's black and white; H and W
    are multiples of 32. Output `probabilities`: (N, H, W) float32. With `moments` (only for
    encoders with batch norm) a second output: (N, 2, C) float32, see `Model.moments`.
    """
    windows = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    axes = {0: "n", 1: "height", 2: "width"}
    outputs = {"probabilities": axes} | ({"moments": {0: "n"}} if moments else {})
    network = copy.deepcopy(model.network).cpu().float()
    graph = _FromPixels(Model(network, model.card), moments=moments).eval()
    with whole(path) as temporary, warnings.catch_warnings():
        # the older exporter warns, but takes a second, not half a minute
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph, (windows,), str(temporary), dynamo=False, opset_version=OPSET, input_names=["windows"],
            output_names=list(outputs), dynamic_axes={"windows": axes, **outputs},
        )  # fmt: skip


def build_network(encoder: str) -> Any:
    """A U-Net for one class with an smp encoder, its weights random."""
    return smp.Unet(encoder, encoder_weights=None, in_channels=3, classes=1)


def start_network(encoder: str, weights: Path | str) -> Any:
    """A U-Net with start weights, of its encoder only (the rest random) or of all of it.

    Raises
    ------
    PoresegError
        The weights do not fit.
    """
    network, found = build_network(encoder), load_file(weights)
    whole_network = any(key.startswith("decoder.") for key in found)
    try:
        (network if whole_network else network.encoder).load_state_dict(found)
    except RuntimeError:  # keys or shapes that it has not
        raise PoresegError(
            f"{weights}: no weights of a U-Net for one class with the encoder {encoder}; name the encoder "
            "that they are of in encoder.name, or set train.start to encoder"
        ) from None
    return network


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images (N, 3, H, W) uint8 to normalised float32, channels last in memory."""
    centre, spread = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (mean, std)
    )
    arranged = images.contiguous(memory_format=torch.channels_last)  # while still uint8
    return torch.div(arranged, 255).sub_(centre).div_(spread)


@cache
def device_of_choice() -> torch.device:
    """The fastest device of this machine that works.

    Warns and uses the processor where there is a GPU, but its driver is too old or torch was not
    built for it (docs/prediction.md).
    """
    if torch.cuda.is_available() or gpus():
        try:
            (torch.ones(1, device="cuda") + 1).item()  # torch finds out only when it computes
            return torch.device("cuda")
        except (RuntimeError, AssertionError) as error:
            why = str(error).partition("\n")[0]
            warn(
                f"the GPU cannot be used ({why}); the processor computes. Set {VISIBLE} to nothing to use all its cores"
            )
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision_of(device: torch.device | str) -> str:
    """The fastest safe precision of a device, in Lightning's names.

    With AVX512-BF16 or AMX, bf16 trains a U-Net nearly twice as fast as fp32; on other
    processors it is emulated and slower (benchmarks/precision.py).
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    has = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return "bf16-mixed" if has.get("avx512_bf16") or has.get("amx_bf16") else "32-true"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context that computes in a precision of `precision_of`."""
    if precision == "32-true":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype)


def save_model(folder: Path, model: Model) -> None:
    """Save smp's own format (for `smp.from_pretrained`), our card, any looks and an ONNX graph."""
    folder.mkdir(parents=True, exist_ok=True)
    network = model.network
    network.save_pretrained(
        folder,  # type: ignore[operator]
        metrics={"validation IoU": model.card["validation_iou"]},
    )
    write_json(folder / CARD, model.card)
    if model.seen:
        save_file(dict(model.seen), folder / LOOKS)
    try:
        export_onnx(model, folder / GRAPH, moments=bool(model.seen))
    # no smp encoder is known to fail, but a training must not be lost to it
    except Exception as error:
        warn(
            f"the network cannot be exported as ONNX ({error}); prediction runs on torch, more slowly"
        )


def load_model(folder: Path | str, device: torch.device) -> Model:
    """Load a model folder onto a device, ready to predict.

    Raises
    ------
    PoresegError
        Not a model folder, or a damaged one.
    """
    card = read_card(folder)
    try:
        network = smp.from_pretrained(str(folder))
    except Exception as error:  # a damaged folder fails in many ways inside the libraries
        raise PoresegError(f"{folder}: cannot be loaded ({error}); train it again") from None
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Model(network, card, precision_of(device), read_looks(folder))
