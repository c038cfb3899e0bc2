"""Checkpoints of timm's training, and supervised ViTs, ConvNeXts and Swins under timm's names.

Source: huggingface/pytorch-image-models, utils/checkpoint_saver.py, models/_helpers.py.
Files: training checkpoints hold `state_dict` and, averaged, `state_dict_ema` (older `model_ema`),
which timm evaluates; keys may have `module.` (DDP) or `_orig_mod.` (torch.compile) before them.
Published weights are the state dict alone, `.pth` or `.safetensors`. Dropped: the classifier
(`head.`, `fc.`). ResNets have torchvision's names, and are told only by an average or `_orig_mod.`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import has_keys
from vicregl_bench.checkpoints.reader import Reader

_AVERAGES = ("state_dict_ema", "model_ema")
_WEIGHTS = ("state_dict", "model", "")
_WRAPPERS = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.")

_CLASSIFIED = (
    ("blocks.0.attn.qkv.weight", "head.weight"),  # ViT
    ("stages.0.blocks.0.conv_dw.weight", "head.fc.weight"),  # ConvNeXt
    ("layers.0.blocks.0.attn.qkv.weight", "head.fc.weight"),  # Swin
)


def _recognises(contents: Contents) -> bool:
    return (
        any(contents.get(name) for name in _AVERAGES)
        or any("_orig_mod." in key for found in contents.containers for key in found.tensors)
        or any(has_keys(contents, *keys) for keys in _CLASSIFIED)
    )


READER = Reader(
    card=Card(
        method="timm",
        title="timm",
        source="huggingface/pytorch-image-models: ImageNet normalisation of most of its weights",
        note=(
            "Told by its key names: mostly supervised. Some of timm's weights were trained with "
            "mean and standard deviation 0.5; name them in a card beside the file."
        ),
    ),
    files="any: `state_dict_ema`, `model_ema`, `state_dict`, `model` or none; `module.`, "
    "`_orig_mod.` or none",
    architectures="ResNets, ViTs, ConvNeXts, Swins",
    recognises=_recognises,
    prefer_prefixes=tuple(
        f"{name}.{wrapper}".removeprefix(".")
        for name in (*_AVERAGES, *_WEIGHTS)
        for wrapper in _WRAPPERS
    ),
)
