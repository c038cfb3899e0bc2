"""VICReg (Bardes, Ponce, LeCun, ICLR 2022), as its released training code saves it.

Files: `resnet50.pth` holds the backbone alone (no container, no prefix) and cannot be told from
any other bare backbone. `*_fullckpt.pth` holds `epoch`, `model`, `optimizer`; the backbone is
`module.backbone.` in `model`, the expander `module.projector.` beside it is dropped.
Barlow Twins saves the same layout with one more group, `module.bn`, and is not taken for VICReg.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    model = contents.get("model")
    return model is not None and model.groups() == {"backbone", "projector"}


READER = Reader(
    card=Card(
        method="vicreg",
        title="VICReg",
        source="facebookresearch/vicreg, main_vicreg.py and augmentations.py",
    ),
    recognises=_recognises,
    prefer_prefixes=("model.module.backbone.", "model.backbone."),
)
