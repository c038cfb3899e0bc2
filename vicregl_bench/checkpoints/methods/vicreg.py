"""VICReg (Bardes, Ponce, LeCun, ICLR 2022), as its released training code saves it.

Source: the paper and facebookresearch/vicreg.
Files: `resnet50.pth` holds the backbone alone (no container, no prefix) and cannot be told from
any other bare backbone. `*_fullckpt.pth` holds `epoch`, `model`, `optimizer`; the backbone is
`module.backbone.` in `model`, the expander `module.projector.` beside it is dropped.
Barlow Twins saves the same layout with one more group, `module.bn`, and is not taken for VICReg.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses
from vicregl_bench.checkpoints.methods.published import table_1, table_2, table_8, table_9
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    model = contents.get("model")
    return model is not None and model.groups() == {"backbone", "projector"}


READER = Reader(
    card=Card(
        method="vicreg",
        title="VICReg",
        source="facebookresearch/vicreg, main_vicreg.py and augmentations.py; paper, B.3",
        detection_preset="lars",
        references=(
            *table_1("VICReg", 71.5, 47.8, 23.5),
            *table_2("VICReg CNX-S", "convnext_small_no_layerscale", 76.2, 60.1, 28.6),
            *table_2("VICReg CNX-B", "convnext_base_no_layerscale", 77.6, 67.2, 32.7),
            *table_8("VICReg", 58.9),
            *table_9("VICReg R50", "resnet50", 57.4, 41.9),
            *table_9("VICReg ViT-B", "vit_base_patch16", 71.3, 55.4),
        ),
    ),
    files="resnet50.pth: bare; *_fullckpt.pth: `model`, `module.backbone.`",
    architectures="ResNet-50, ResNet-50 x2, ResNet-200 x2",
    recognises=_recognises,
    prefer_prefixes=addresses("model:backbone."),
)
