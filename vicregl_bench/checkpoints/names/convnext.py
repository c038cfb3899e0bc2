"""ConvNeXts under the names of other projects; the canonical ones are timm's.

ConvNeXt: Liu et al., CVPR 2022. Its LayerScale (`gamma`) is a choice: VICRegL trains without.
"""

import re

from torch import Tensor

from vicregl_bench.checkpoints.names.dialect import Dialect, Tensors
from vicregl_bench.checkpoints.names.table import Pair, Table, is_dense


def _original(depthwise: str, pointwise: str, norm: str) -> list[Pair]:
    """The original names, which OpenMMLab's follow in all but three modules."""
    return [
        Pair("downsample_layers.0.#.*", "stem.#.*"),
        Pair("downsample_layers.#.#.*", "stages.#.downsample.#.*"),
        Pair(f"stages.#.#.{depthwise}.*", "stages.#.blocks.#.conv_dw.*"),
        Pair("stages.#.#.norm.*", "stages.#.blocks.#.norm.*"),
        Pair(f"stages.#.#.{pointwise}1.*", "stages.#.blocks.#.mlp.fc1.*"),
        Pair(f"stages.#.#.{pointwise}2.*", "stages.#.blocks.#.mlp.fc2.*"),
        Pair(f"{norm}.*", "head.norm.*"),
        Pair("head.*", "head.fc.*"),  # the classifier, as timm calls it
    ]


_GAMMA = Pair("stages.#.#.gamma", "stages.#.blocks.#.gamma")

_ORIGINAL_SIGNS = (("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"),)

_ORIGINAL = Table(
    "the original ConvNeXt", _ORIGINAL_SIGNS, [*_original("dwconv", "pwconv", "norm"), _GAMMA]
)

_RELEASED = Table(
    "VICRegL's released ConvNeXt", _ORIGINAL_SIGNS, _original("dwconv", "pwconv", "norm")
)

_OPENMMLAB = Table(
    "OpenMMLab's ConvNeXt",
    (("downsample_layers.0.0.weight", "stages.0.0.depthwise_conv.weight"),),
    [*_original("depthwise_conv", "pointwise_conv", "norm3"), _GAMMA],
)

_TORCHVISION = Table(
    "torchvision's ConvNeXt",
    (("features.0.0.weight", "features.1.0.block.0.weight"),),
    [
        Pair("features.0.#.*", "stem.#.*"),
        *(
            Pair(f"features.{2 * stage}.#.*", f"stages.{stage}.downsample.#.*")
            for stage in (1, 2, 3)
        ),
        *(
            Pair(f"features.{2 * stage + 1}.#.block.{index}.*", f"stages.{stage}.blocks.#.{ours}.*")
            for stage in (0, 1, 2, 3)
            for index, ours in ((0, "conv_dw"), (2, "norm"), (3, "mlp.fc1"), (5, "mlp.fc2"))
        ),
        *(
            Pair(
                f"features.{2 * stage + 1}.#.layer_scale",
                f"stages.{stage}.blocks.#.gamma",
                read=lambda scale: scale.reshape(-1) if scale.shape[1:] == (1, 1) else scale,
                write=lambda gamma: gamma.reshape(-1, 1, 1),
            )
            for stage in (0, 1, 2, 3)
        ),
        Pair("classifier.0.*", "head.norm.*"),
    ],
    needs={"stages.0.blocks.0.gamma": "LayerScale"},
)

_POINTWISE = re.compile(r"(?:.*\.)?stages\.\d+\.blocks\.\d+\.mlp\.fc[12]\.weight")


def _read_conv_mlp(tensors: Tensors) -> dict[str, Tensor] | None:
    """Make linear weights of the 1x1 convolutions; the names are canonical already."""
    changed = {
        key: tensor.flatten(1)
        for key, tensor in tensors.items()
        if tensor.shape[2:] == (1, 1) and is_dense(tensor) and _POINTWISE.fullmatch(key)
    }
    return {**tensors, **changed} if changed else None


def _write_conv_mlp(tensors: Tensors) -> dict[str, Tensor]:
    return {
        key: tensor[:, :, None, None] if _POINTWISE.fullmatch(key) else tensor
        for key, tensor in tensors.items()
    }


RELEASED = Dialect(
    "released",
    "convnext",
    "facebookresearch/VICRegL, convnext.py: the original names, without LayerScale",
    _RELEASED.read,
    _RELEASED.write,
)
"""Read as `original`, so no file is searched for it; to be written."""

DIALECTS = (
    Dialect(
        "original",
        "convnext",
        "facebookresearch/ConvNeXt, models/convnext.py",
        _ORIGINAL.read,
        _ORIGINAL.write,
    ),
    Dialect(
        "torchvision",
        "convnext",
        "torchvision 0.29, models/convnext.py",
        _TORCHVISION.read,
        _TORCHVISION.write,
    ),
    Dialect(
        "openmmlab",
        "convnext",
        "open-mmlab/mmpretrain 1.x, mmpretrain/models/backbones/convnext.py",
        _OPENMMLAB.read,
        _OPENMMLAB.write,
    ),
    Dialect(
        "timm conv_mlp",
        "convnext",
        "timm 1.0, models/convnext.py, conv_mlp=True",
        _read_conv_mlp,
        _write_conv_mlp,
    ),
)
