"""DINOv2 (Oquab et al., TMLR 2024; with registers: Darcet et al., ICLR 2024), as published.

Source: the papers and facebookresearch/dinov2, hub/backbones.py, models/vision_transformer.py.
Files: `dinov2_vit{s,b,l,g}14[_reg4]_pretrain.pth` holds the backbone alone (no container, no
prefix). It is told from other ViTs by `mask_token` beside LayerScale (`ls1.gamma`). Dropped:
`mask_token`. timm's copies and this project's have none; they are told by LayerScale beside
patches of 14 or registers, without a classifier, which DeiT III's ViT-H/14 has.
`teacher_checkpoint.pth` of a training holds `teacher`, with `backbone.` and heads (dropped). The
giant's SwiGLU fits no backbone here.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.checkpoints.methods.marks import addresses, plain
from vicregl_bench.checkpoints.reader import Reader

_SCALE = re.compile(r"(|backbone\.)blocks\.0\.(?:0\.)?ls1\.gamma")


def _is_ours(found: Container) -> bool:
    tensors = {plain(key): tensor for key, tensor in found.tensors.items()}
    prefixes = [scale[1] for key in tensors if (scale := _SCALE.fullmatch(key))]
    if any(key.endswith("mask_token") for key in tensors):
        return bool(prefixes)
    return any(_is_timms(tensors, prefix) for prefix in prefixes)


def _is_timms(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    patches = tensors.get(f"{prefix}patch_embed.proj.weight")
    marked = patches is not None and patches.shape[-2:] == (14, 14)
    return (marked or f"{prefix}reg_token" in tensors) and f"{prefix}head.weight" not in tensors


def _recognises(contents: Contents) -> bool:
    return any(_is_ours(found) for found in contents.containers)


READER = Reader(
    card=Card(
        method="dinov2",
        title="DINOv2",
        source="facebookresearch/dinov2, eval/linear.py and eval/segmentation: norm on every map",
        note=(
            "Patches of 14 px: an input whose side is no multiple is resized to the next one, 512 "
            "to 518."
        ),
        output_norm=True,
    ),
    files="dinov2_vit*14[_reg4]_pretrain.pth: no container, no prefix; teacher_checkpoint.pth: "
    "`teacher`, `backbone.`",
    architectures="ViT-S, ViT-B, ViT-L with patches of 14, with and without registers",
    recognises=_recognises,
    prefer_prefixes=addresses("teacher:backbone."),
)
