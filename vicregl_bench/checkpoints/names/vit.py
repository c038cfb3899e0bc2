"""ViTs under the names of other projects; the canonical ones are timm's.

DINO, iBOT, MAE and MoCo v3 took timm's names over and need no translation.

Deviation: mmseg's LayerNorm divides with eps 1e-5 unless its config says otherwise; weights read
from it get timm's 1e-6.
"""

import re

from torch import Tensor

from vicregl_bench.checkpoints.names.dialect import Dialect, Tensors
from vicregl_bench.checkpoints.names.table import Pair, Table, find_prefixes, is_dense, rekey

_NEEDS = {
    "cls_token": "a class token",
    "pos_embed": "positions",
    "blocks.0.attn.qkv.bias": "biases of queries, keys and values",
}

_TORCHVISION_BLOCK = "encoder.layers.encoder_layer_#"

_TORCHVISION = Table(
    "torchvision's VisionTransformer",
    (("class_token", "conv_proj.weight"),),
    [
        Pair("class_token", "cls_token"),
        Pair("conv_proj.*", "patch_embed.proj.*"),
        Pair("encoder.pos_embedding", "pos_embed"),
        *(
            Pair(f"{_TORCHVISION_BLOCK}.{theirs}", f"blocks.#.{ours}")
            for theirs, ours in (
                ("ln_1.*", "norm1.*"),
                ("self_attention.in_proj_weight", "attn.qkv.weight"),
                ("self_attention.in_proj_bias", "attn.qkv.bias"),
                ("self_attention.out_proj.*", "attn.proj.*"),
                ("ln_2.*", "norm2.*"),
                ("mlp.0.*", "mlp.fc1.*"),
                ("mlp.3.*", "mlp.fc2.*"),
                # before torchvision 0.13
                ("mlp.linear_1.*", "mlp.fc1.*"),
                ("mlp.linear_2.*", "mlp.fc2.*"),
            )
        ),
        Pair("encoder.ln.*", "norm.*"),
    ],
    needs=_NEEDS,
)

_OPENMMLAB = Table(
    "mmsegmentation's VisionTransformer",
    (("patch_embed.projection.weight", "layers.0.attn.attn.in_proj_weight"),),
    [
        Pair("cls_token", "cls_token"),
        Pair("pos_embed", "pos_embed"),
        Pair("patch_embed.projection.*", "patch_embed.proj.*"),
        *(
            Pair(f"layers.#.{theirs}", f"blocks.#.{ours}")
            for theirs, ours in (
                ("ln1.*", "norm1.*"),
                ("attn.attn.in_proj_weight", "attn.qkv.weight"),
                ("attn.attn.in_proj_bias", "attn.qkv.bias"),
                ("attn.attn.out_proj.*", "attn.proj.*"),
                ("ln2.*", "norm2.*"),
                ("ffn.layers.0.0.*", "mlp.fc1.*"),
                ("ffn.layers.1.*", "mlp.fc2.*"),
            )
        ),
        Pair("ln1.*", "norm.*"),
    ],
    needs=_NEEDS,
)

_DINOV2_SIGNS = (("register_tokens", "cls_token", "pos_embed"), ("blocks.0.0.norm1.weight",))

_CHUNKED = re.compile(r"blocks\.\d+\.(\d+\..+)")
"""A block inside a chunk of blocks; its number is the one it has among all."""


def _dinov2_name(key: str, tensor: Tensor) -> tuple[str, Tensor]:
    if key == "register_tokens":
        return "reg_token", tensor
    found = _CHUNKED.fullmatch(key)
    return f"blocks.{found[1]}" if found else key, tensor


def _read_dinov2(tensors: Tensors) -> dict[str, Tensor] | None:
    """Read weights with registers or with chunked blocks; others are canonical.

    DINOv2 adds positions to the class token and the patches, then inserts the registers; timm's
    models with registers have positions of the patches alone, so the class token takes its own up,
    in float32: half-precision weights and their float32 cast are to give the same sum.
    """
    prefixes = find_prefixes(tensors, _DINOV2_SIGNS)
    renamed = rekey(tensors, prefixes, _dinov2_name)
    if renamed is None:
        return None
    for prefix in prefixes:
        if f"{prefix}register_tokens" in tensors:
            token, positions = tensors[f"{prefix}cls_token"], tensors[f"{prefix}pos_embed"]
            if _have_class_position(token, positions):
                renamed[f"{prefix}cls_token"] = token.float() + positions[:, :1].float()
                renamed[f"{prefix}pos_embed"] = positions[:, 1:]
    return renamed


def _have_class_position(token: Tensor, positions: Tensor) -> bool:
    """Whether these are a class token (1, 1, D), and positions (1, 1 + N, D) with its own."""
    return (
        is_dense(token)
        and is_dense(positions)
        and token.device == positions.device
        and token.ndim == positions.ndim == 3
        and positions.shape[1] > 0
        and token.shape == positions[:, :1].shape == (1, 1, token.shape[2])
    )


DIALECTS = (
    Dialect(
        "torchvision",
        "vit",
        "torchvision 0.29, models/vision_transformer.py",
        _TORCHVISION.read,
        _TORCHVISION.write,
    ),
    Dialect(
        "openmmlab",
        "vit",
        "mmsegmentation 1.x, mmseg/models/backbones/vit.py",
        _OPENMMLAB.read,
        _OPENMMLAB.write,
    ),
    Dialect(
        "dinov2",
        "vit",
        "facebookresearch/dinov2, dinov2/models/vision_transformer.py",
        _read_dinov2,
    ),
)
