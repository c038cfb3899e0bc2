"""Write a backbone's weights for another project: its key names, its container, the same values.

| format | file | ResNet | ConvNeXt | ViT | Swin |
|---|---|---|---|---|---|
| torchvision | state dict | torchvision | torchvision | torchvision | torchvision |
| timm | state dict | torchvision | timm | timm | timm |
| mmseg | `meta`, `state_dict` | torchvision | mmpretrain | mmseg | mmseg |
| mmdet | `meta`, `state_dict` | torchvision | mmpretrain | - | mmdet |
| detectron2 | .pkl of NumPy arrays | detectron2 | - | - | - |
| released | state dict | torchvision | VICRegL, without LayerScale | - | - |

All are backbones alone: no classifier, and no prefix but `backbone.` of mmdet's Swins. A state dict
may be written as .safetensors too.

OpenMMLab's loaders skip what a module lacks and only warn of what it misses, so its backbones are
to be built for these weights: mmseg's VisionTransformer with `patch_bias=True`, `final_norm=True`
and `norm_cfg=dict(type="LN", eps=1e-6)`; mmpretrain's ConvNeXt with `layer_scale_init_value=0`
where there is no LayerScale; its ResNet with `style="caffe"` for a ResNet of the first version.
"""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicregl_bench.atomic import write_atomic
from vicregl_bench.checkpoints.names import find_dialect
from vicregl_bench.errors import CheckpointError

_CANONICAL = None

_NAMES: dict[str, dict[str, str | None]] = {
    "resnet": {
        "torchvision": _CANONICAL,
        "timm": _CANONICAL,
        "mmseg": _CANONICAL,
        "mmdet": _CANONICAL,
        "detectron2": "detectron2",
        "released": _CANONICAL,
    },
    "convnext": {
        "torchvision": "torchvision",
        "timm": _CANONICAL,
        "mmseg": "openmmlab",
        "mmdet": "openmmlab",
        "released": "released",
    },
    "vit": {"torchvision": "torchvision", "timm": _CANONICAL, "mmseg": "openmmlab"},
    "swin": {
        "torchvision": "torchvision",
        "timm": _CANONICAL,
        "mmseg": "openmmlab",
        "mmdet": "openmmlab",
    },
}
"""Family -> format -> the dialect its keys are written in."""

_PREFIXES = {("swin", "mmdet"): "backbone."}
"""What the keys begin with: mmdet's SwinTransformer skips all others when it loads a file."""

FORMATS = ("torchvision", "timm", "mmseg", "mmdet", "detectron2", "released")

_AUTHOR = "vicregl-bench"

_PICKLE_PROTOCOL = 2
"""The newest that torch's restricted unpickler reads, so that our own reader takes the file."""


def possible_formats(family: str) -> tuple[str, ...]:
    """Return the formats that a family of backbones can be written in.

    Raises:
        CheckpointError: unknown family.
    """
    if family not in _NAMES:
        raise CheckpointError(f"unknown family {family!r}; known: {', '.join(_NAMES)}")
    return tuple(_NAMES[family])


def convert_state(state_dict: Mapping[str, Tensor], family: str, to: str) -> dict[str, Tensor]:
    """Translate a backbone's canonical state dict into the names of a format.

    Args:
        state_dict: torchvision's names of a ResNet, timm's of a ConvNeXt, ViT or Swin; no prefix.
        family: `resnet`, `convnext`, `vit` or `swin`.
        to: one of `FORMATS`.

    Raises:
        CheckpointError: unknown family or format, the format has no such family, or cannot hold
            one of the tensors.
    """
    formats = possible_formats(family)
    if to not in formats:
        what = f"{to} has no {family} here" if to in FORMATS else f"unknown format {to!r}"
        raise CheckpointError(f"{what}; a {family} can be written as {', '.join(formats)}")
    dialect = _NAMES[family][to]
    if dialect is _CANONICAL:
        return dict(state_dict)
    write = find_dialect(dialect, family).write
    assert write is not None
    prefix = _PREFIXES.get((family, to), "")
    try:
        return {prefix + key: tensor for key, tensor in write(state_dict).items()}
    except CheckpointError as error:
        others = ", ".join(name for name in formats if name != to)
        raise CheckpointError(f"{error}; write it as one of {others}") from error


def save_converted(
    converted: Mapping[str, Tensor],
    to: str,
    path: str | Path,
    *,
    card: Mapping[str, object] | None = None,
    force: bool = False,
) -> None:
    """Write what `convert_state` gave into a file, whole or not at all.

    Args:
        converted: under the names of `to`.
        to: the format.
        path: of the file; `.pkl` for detectron2, `.safetensors` for a state dict without pickle.
        card: plain values that go along where the format has a place: in `meta` (mmseg, mmdet) and
            in the metadata of a .safetensors file.
        force: replace an existing file.

    Raises:
        CheckpointError: the file exists, its name does not suit the format, or it cannot be
            written.
    """
    path = Path(path)
    if to not in FORMATS:
        raise CheckpointError(f"unknown format {to!r}; known: {', '.join(FORMATS)}")
    _check_name(path, to)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name a file in it")
    if path.exists() and not force:
        raise CheckpointError(f"{path} exists; choose another name or replace it with --force")
    # a view would be written with all of the tensor it is a part of
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in converted.items()}
    try:
        write_atomic(path, _serialise(tensors, to, path.suffix, dict(card or {})))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; choose another place"
        ) from error


def _check_name(path: Path, to: str) -> None:
    if to == "detectron2" and path.suffix != ".pkl":
        raise CheckpointError(f"{path}: detectron2 tells its format by the name; end it in .pkl")
    if to in ("mmseg", "mmdet") and path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: {to} reads files of torch.save alone; end it in .pth")


def _serialise(tensors: dict[str, Tensor], to: str, suffix: str, card: dict[str, object]) -> bytes:
    if suffix == ".safetensors":
        import safetensors.torch

        metadata = {"format": "pt", "card": json.dumps(card)}
        return safetensors.torch.save(tensors, metadata)
    content: dict[str, Any] = dict(tensors)
    if to == "detectron2":
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        content = {"model": arrays, "__author__": _AUTHOR, "matching_heuristics": True}
        return pickle.dumps(content, _PICKLE_PROTOCOL)
    if to in ("mmseg", "mmdet"):
        content = {"meta": {"author": _AUTHOR, "card": card}, "state_dict": content}
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()
