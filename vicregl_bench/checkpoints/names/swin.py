"""Swin Transformers under the names of other projects; the canonical ones are timm's.

timm's hold neither `relative_position_index` nor `attn_mask`, which follow from the architecture.
Swin: Liu et al., ICCV 2021.
"""

from math import isqrt

import torch
from torch import Tensor

from vicregl_bench.checkpoints.names.dialect import Dialect, Tensors
from vicregl_bench.checkpoints.names.table import Pair, Table

_TABLE = "relative_position_bias_table"
_INDEX = "relative_position_index"

_ORIGINAL = Table(
    "the original Swin Transformer",
    # timm, which downsamples at the start of a stage, has none in the first
    (("layers.0.downsample.reduction.weight", "layers.0.blocks.0.attn.qkv.weight"),),
    [
        *(
            Pair(key, key)
            for key in (
                "patch_embed.proj.*",
                "patch_embed.norm.*",
                "layers.#.blocks.#.norm1.*",
                "layers.#.blocks.#.attn.qkv.*",
                "layers.#.blocks.#.attn.proj.*",
                f"layers.#.blocks.#.attn.{_TABLE}",
                "layers.#.blocks.#.norm2.*",
                "layers.#.blocks.#.mlp.fc#.*",
                "norm.*",
            )
        ),
        *(
            Pair(f"layers.{stage - 1}.downsample.{part}.*", f"layers.{stage}.downsample.{part}.*")
            for stage in (1, 2, 3)
            for part in ("norm", "reduction")
        ),
    ],
    dropped=("layers.#.blocks.#.attn_mask", f"layers.#.blocks.#.attn.{_INDEX}"),
)

_TORCHVISION = Table(
    "torchvision's SwinTransformer",
    (("features.0.0.weight", "features.1.0.attn.qkv.weight"),),
    [
        Pair("features.0.0.*", "patch_embed.proj.*"),
        Pair("features.0.2.*", "patch_embed.norm.*"),
        *(
            Pair(f"features.{2 * stage + 1}.#.{theirs}", f"layers.{stage}.blocks.#.{ours}")
            for stage in (0, 1, 2, 3)
            for theirs, ours in (
                ("norm1.*", "norm1.*"),
                ("attn.qkv.*", "attn.qkv.*"),
                ("attn.proj.*", "attn.proj.*"),
                (f"attn.{_TABLE}", f"attn.{_TABLE}"),
                ("norm2.*", "norm2.*"),
                ("mlp.0.*", "mlp.fc1.*"),
                ("mlp.3.*", "mlp.fc2.*"),
            )
        ),
        *(
            Pair(f"features.{2 * stage}.{part}.*", f"layers.{stage}.downsample.{part}.*")
            for stage in (1, 2, 3)
            for part in ("norm", "reduction")
        ),
        Pair("norm.*", "norm.*"),
    ],
    dropped=(f"features.#.#.attn.{_INDEX}",),
)


def _unfold_to_quarters(values: Tensor) -> Tensor:
    """Reorder the 4C channels of a merged 2x2 patch from nn.Unfold's order to the original one.

    nn.Unfold has the channel first, then row and column: (C, 2, 2). The original concatenates the
    four pixels by column, then row, each with all its channels: (2, 2, C).
    """
    if values.ndim == 0 or values.shape[-1] % 4:
        return values
    *others, channels = values.shape
    return values.reshape(*others, channels // 4, 2, 2).transpose(-1, -3).flatten(-3)


def _quarters_to_unfold(values: Tensor) -> Tensor:
    """The way back from `_unfold_to_quarters`."""
    return values.reshape(*values.shape[:-1], 2, 2, -1).transpose(-1, -3).flatten(-3)


_OPENMMLAB = Table(
    "OpenMMLab's SwinTransformer",
    (("patch_embed.projection.weight", "stages.0.blocks.0.attn.w_msa.qkv.weight"),),
    [
        Pair("patch_embed.projection.*", "patch_embed.proj.*"),
        Pair("patch_embed.norm.*", "patch_embed.norm.*"),
        *(
            Pair(f"stages.#.blocks.#.{theirs}", f"layers.#.blocks.#.{ours}")
            for theirs, ours in (
                ("norm1.*", "norm1.*"),
                ("attn.w_msa.qkv.*", "attn.qkv.*"),
                ("attn.w_msa.proj.*", "attn.proj.*"),
                (f"attn.w_msa.{_TABLE}", f"attn.{_TABLE}"),
                ("norm2.*", "norm2.*"),
                ("ffn.layers.0.0.*", "mlp.fc1.*"),
                ("ffn.layers.1.*", "mlp.fc2.*"),
            )
        ),
        *(
            Pair(
                f"stages.{stage - 1}.downsample.{part}.*",
                f"layers.{stage}.downsample.{part}.*",
                read=_unfold_to_quarters,
                write=_quarters_to_unfold,
            )
            for stage in (1, 2, 3)
            for part in ("norm", "reduction")
        ),
        Pair("norm3.*", "norm.*"),
    ],
    dropped=(f"stages.#.blocks.#.attn.w_msa.{_INDEX}",),
)


def _position_index(table: Tensor) -> Tensor:
    """Row of the bias table of each pair of window positions: (M², M²) of a ((2M - 1)², H) table.

    Swin, section 3.2: offsets of -M + 1 to M - 1 along both axes, rows first.
    """
    side = isqrt(len(table))
    ticks = torch.arange((side + 1) // 2)
    place = (ticks[:, None] * side + ticks).flatten()
    return place[:, None] - place + len(table) // 2


def _with_index(written: dict[str, Tensor], *, flat: bool) -> dict[str, Tensor]:
    """Add the buffers that the project's own state dict has, and a strict load asks for."""
    for key, table in tuple(written.items()):
        if key.endswith(_TABLE):
            index = _position_index(table)
            written[key.replace(_TABLE, _INDEX)] = index.flatten() if flat else index
    return written


def _write_torchvision(tensors: Tensors) -> dict[str, Tensor]:
    return _with_index(_TORCHVISION.write(tensors), flat=True)


def _write_openmmlab(tensors: Tensors) -> dict[str, Tensor]:
    return _with_index(_OPENMMLAB.write(tensors), flat=False)


DIALECTS = (
    Dialect(
        "original",
        "swin",
        "microsoft/Swin-Transformer, models/swin_transformer.py",
        _ORIGINAL.read,
        _ORIGINAL.write,
    ),
    Dialect(
        "torchvision",
        "swin",
        "torchvision 0.29, models/swin_transformer.py",
        _TORCHVISION.read,
        _write_torchvision,
    ),
    Dialect(
        "openmmlab",
        "swin",
        "mmsegmentation 1.x and mmdetection 3.x, models/backbones/swin.py",
        _OPENMMLAB.read,
        _write_openmmlab,
    ),
)
