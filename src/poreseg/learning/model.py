"""The model: an smp U-Net with its preprocessing, and its probabilities for whole rasters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from poreseg.errors import PoresegError
from poreseg.files import read_json, write_json
from poreseg.images.raster import Raster
from poreseg.images.stitch import stitch
from poreseg.images.windows import Window, covering

STRIDE = 32  # px; the U-Net halves its input five times
CARD = "poreseg.json"
THRESHOLD = 0.5  # Dice and cross-entropy both aim at it


@dataclass(frozen=True)
class Model:
    """A network with the normalisation it was trained with, and its card (see docs)."""

    network: nn.Module
    card: dict[str, Any]

    @property
    def threshold(self) -> float:
        """Probability from which a pixel is pore."""
        return float(self.card["threshold"])

    def probabilities(
        self, windows: NDArray[np.uint8], *, precision: str, tta: bool
    ) -> NDArray[np.float32]:
        """Pore probabilities (N, H, W) of windows (N, H, W, 3) uint8 of any one size."""
        device = next(self.network.parameters()).device
        height, width = windows.shape[1:3]
        pad = ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
        padded = np.moveaxis(np.pad(windows, pad, mode="symmetric"), -1, 1)  # (N, 3, H, W)
        images = normalise(
            torch.from_numpy(padded.copy()).to(device), self.card["mean"], self.card["std"]
        )
        with torch.inference_mode(), autocast(device, precision):
            found = mean_over_d4(self._forward, images) if tta else self._forward(images)
        return found[:, 0, :height, :width].cpu().numpy()

    def _forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.sigmoid(self.network(images).float())


def build_network(encoder: str) -> Any:
    """A U-Net for one class with an smp encoder, its weights random."""
    return smp.Unet(encoder, encoder_weights=None, in_channels=3, classes=1)


class _DepthwiseInFp32:
    """A depthwise convolution that trains in fp32 under bf16 autocast.

    oneDNN's bf16 backward pass of depthwise convolutions is several times slower than
    that in fp32, and a fifth of a training step goes there (benchmarks/precision.py).
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:  # type: ignore[attr-defined]
            return super().forward(images)  # type: ignore[misc]
        with torch.autocast(images.device.type, enabled=False):
            found: Tensor = super().forward(images.float())  # type: ignore[misc]
        return found.to(torch.bfloat16)


def speed_up(network: nn.Module, device: torch.device, precision: str) -> None:
    """Change, in place, how a network computes in training, and nothing of what it computes."""
    if device.type == "cpu" and precision == "bf16-mixed":
        for part in network.modules():
            if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1:
                kind = type(part)
                part.__class__ = type(kind.__name__, (_DepthwiseInFp32, kind), {})


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images (N, 3, H, W) uint8 as the encoder's weights expect them, channels last."""
    shape = (1, 3, 1, 1)
    scaled = images.float() / 255
    centred = scaled - torch.tensor(mean, device=images.device).view(shape)
    done = centred / torch.tensor(std, device=images.device).view(shape)
    return done.contiguous(memory_format=torch.channels_last)


def mean_over_d4(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of a function over the eight turns and flips of images (N, C, H, W)."""
    total = torch.zeros(())
    for flip in (False, True):
        for turns in range(4):
            turned = torch.rot90(images.flip(-1) if flip else images, turns, (-2, -1))
            back = torch.rot90(forward(turned), -turns, (-2, -1))
            total = total + (back.flip(-1) if flip else back)
    return total / 8


def device_of_choice() -> torch.device:
    """The fastest device of this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision_of(device: torch.device | str) -> str:
    """The fastest safe precision of a device, in Lightning's names.

    On processors with AVX512-BF16 or AMX bf16 trains a U-Net twice as fast as fp32; on
    others it is emulated and slower (benchmarks/precision.py).
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
    """Save as smp does (`smp.from_pretrained` loads it anywhere), with our card beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    network = model.network
    network.save_pretrained(
        folder,  # type: ignore[operator]
        metrics={"validation IoU": model.card["validation_iou"]},
    )
    write_json(folder / CARD, model.card)


def load_model(folder: Path | str, device: torch.device) -> Model:
    """Load a model folder onto a device, ready to predict.

    Raises
    ------
    PoresegError
        The folder is no model folder.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        found = sorted(path.parent.name for path in folder.glob(f"*/{CARD}"))
        hint = f"; it holds {', '.join(found)}, name one of them" if found else ""
        raise PoresegError(f"{folder}: no model folder, there is no {CARD} in it{hint}")
    try:
        network = smp.from_pretrained(str(folder))
    except Exception as error:  # a damaged folder fails in many ways inside the libraries
        raise PoresegError(f"{folder}: cannot be loaded ({error}); train it again") from None
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Model(network, read_json(folder / CARD))


def predict_raster(
    models: Sequence[Model],
    raster: Raster,
    *,
    window: int,
    overlap: float,
    batch: int,
    tta: bool,
    precision: str,
    progress: "tqdm[Any] | None" = None,
) -> NDArray[np.float32]:
    """Stitched pore probabilities (H, W) of a raster; the mean over several models.

    A raster smaller than a window is one window, mirrored up to a multiple of 32 px.
    """
    windows = covering(raster.height, raster.width, window, overlap)
    if progress is not None:
        progress.reset(len(windows))

    def parts() -> Iterator[tuple[Window, NDArray[np.float32]]]:
        for first in range(0, len(windows), batch):
            chosen = windows[first : first + batch]
            pixels = np.stack([raster.rgb8(w) for w in chosen])
            found = [m.probabilities(pixels, precision=precision, tta=tta) for m in models]
            yield from zip(chosen, np.mean(found, axis=0), strict=True)
            if progress is not None:
                progress.update(len(chosen))

    return stitch(raster.height, raster.width, parts())
