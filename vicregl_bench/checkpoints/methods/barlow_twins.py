"""Barlow Twins (Zbontar et al., ICML 2021), as its released training code saves it.

Source: the paper and facebookresearch/barlowtwins, main.py.
Files: `resnet50.pth` holds the backbone alone (no container, no prefix) and cannot be told from
any other bare backbone. `checkpoint.pth` holds `epoch`, `model`, `optimizer`; the backbone is
`module.backbone.` in `model`. Dropped: `module.projector.` and the BatchNorm after it, `module.bn`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    model = contents.get("model")
    return model is not None and model.groups() == {"backbone", "projector", "bn"}


READER = Reader(
    card=Card(
        method="barlow_twins",
        title="Barlow Twins",
        source="facebookresearch/barlowtwins, main.py",
        detection_preset="lars",
    ),
    files="resnet50.pth: bare; checkpoint.pth: `model`, `module.backbone.`",
    architectures="ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("model:backbone."),
)
