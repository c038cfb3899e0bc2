"""Supervised ResNets and any other state dict with torchvision's key names and its `fc`.

Source: pytorch/vision, models/resnet.py.
Files: a bare state dict (no container, no prefix), or the same in a container such as
`state_dict`; `fc.weight` and `fc.bias` are dropped. SimCLR's converted weights look the same. So
do ResNets with anti-aliased downsampling (timm's `resnetaa50`, `resnetblur50`), whose blur has no
weights: same keys, same shapes, another network. Nothing here tells them, and none is built.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import has_keys
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_keys(
        contents, "conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight"
    )


READER = Reader(
    card=Card(
        method="torchvision",
        title="Supervised (torchvision names)",
        source="torchvision.models.resnet key names; ImageNet normalisation of its weights",
        note=(
            "Told by its key names: any ResNet saved with torchvision's names and its fc. SimCLR's "
            "converted weights look the same and take other input: pass --method simclr. "
            "Anti-aliased ResNets (timm's resnetaa50, resnetblur50) have the same keys and shapes, "
            "cannot be told by them, and would be evaluated without their blur."
        ),
    ),
    files="any: no prefix, with `fc`",
    architectures="ResNets",
    recognises=_recognises,
    verified="a real ResNet-50 (v1, fp16) and files made here",
)
