"""Supervised ResNets and any other state dict with torchvision's key names and its `fc`.

Files: a bare state dict (no container, no prefix), or the same in a container such as
`state_dict`; `fc.weight` and `fc.bias` are dropped.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader

_MARKS = frozenset({"conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight"})


def _recognises(contents: Contents) -> bool:
    return any(
        {key.removeprefix("module.") for key in found.tensors} >= _MARKS
        for found in contents.containers
    )


READER = Reader(
    card=Card(
        method="torchvision",
        title="Supervised (torchvision names)",
        source="torchvision.models.resnet key names; ImageNet normalisation of its weights",
        note="Told by its key names: any ResNet saved with torchvision's names and its fc.",
    ),
    recognises=_recognises,
)
