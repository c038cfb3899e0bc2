"""Backbones converted from PyTorch for detectron2, whatever their method.

Source: facebookresearch/detectron2, tools/convert-torchvision-to-d2.py; facebookresearch/moco,
detection/convert-pretrain-to-detectron2.py, which many methods copied.
Files: `*.pkl` holds `model` (NumPy arrays, detectron2's names, no prefix), `__author__` and
`matching_heuristics`. Dropped: `stem.fc.`. The method stands in no key: name it with `--method`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import has_keys
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_keys(contents, "stem.conv1.weight", "res2.0.conv1.weight")


READER = Reader(
    card=Card(
        method="detectron2_rgb",
        title="Converted for detectron2",
        source="facebookresearch/detectron2, tools/convert-torchvision-to-d2.py",
        note=(
            "Converted from PyTorch: RGB with ImageNet normalisation, stride in the 3x3. The keys "
            "do not tell the method; name it with --method."
        ),
    ),
    files="*.pkl (converted): `model`, no prefix",
    architectures="ResNets",
    recognises=_recognises,
)
