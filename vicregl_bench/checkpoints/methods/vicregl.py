"""VICRegL (Bardes, Ponce, LeCun, NeurIPS 2022), as its released training code saves it.

Source: the paper, appendix D, and facebookresearch/VICRegL.
Files: `<arch>_alpha<a>.pth` holds the backbone alone (no container, no prefix) and cannot be told
from any other bare backbone. `*_fullckpt.pth` holds `epoch`, `model`, `optimizer`; the backbone is
`module.backbone.` in `model`. Dropped beside it: `module.maps_projector.` (absent for alpha = 1),
`module.projector.` (absent for alpha = 0) and the online `module.classifier.`. ConvNeXts have
their original names and no LayerScale.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses
from vicregl_bench.checkpoints.methods.published import table_1, table_2, table_8, table_9
from vicregl_bench.checkpoints.reader import Reader

_HEADS = frozenset({"maps_projector", "projector", "classifier"})


def _recognises(contents: Contents) -> bool:
    model = contents.get("model")
    if model is None:
        return False
    groups = model.groups()
    own = bool(groups & {"maps_projector", "classifier"})
    return own and "backbone" in groups and groups <= _HEADS | {"backbone"}


READER = Reader(
    card=Card(
        method="vicregl",
        title="VICRegL",
        source="facebookresearch/VICRegL, main_vicregl.py; VICRegL paper, appendix D",
        note=(
            "The released code normalises with a standard deviation of 0.228 in the red channel, "
            "the paper with 0.229; the paper's is the default."
        ),
        detection_preset="lars",
        references=(
            *table_1("VICRegL α = 0.9", 71.2, 54.0, 25.1),
            *table_1("VICRegL α = 0.75", 70.4, 55.9, 25.2),
            *table_2("VICRegL α = 0.9 CNX-S", "convnext_small_no_layerscale", 75.9, 66.7, 30.8),
            *table_2("VICRegL α = 0.75 CNX-S", "convnext_small_no_layerscale", 74.6, 67.5, 31.2),
            *table_2("VICRegL α = 0.9 CNX-B", "convnext_base_no_layerscale", 77.1, 69.3, 33.5),
            *table_2("VICRegL α = 0.75 CNX-B", "convnext_base_no_layerscale", 76.3, 70.4, 35.3),
            *table_2("VICRegL α = 0.75† CNX-XL", "convnext_xlarge_no_layerscale", 79.4, 78.7, 43.2),
            *table_8("VICRegL α = 0.9", 62.3),
            *table_8("VICRegL α = 0.75", 65.3),
            *table_9("VICRegL α = 0.75 R50", "resnet50", 59.5, 45.6),
            *table_9("VICRegL α = 0.75 CNX-B", "convnext_base_no_layerscale", 75.4, 59.0),
        ),
    ),
    files="<arch>_alpha<a>.pth: bare; *_fullckpt.pth: `model`, `module.backbone.`",
    architectures="ResNet-50, ConvNeXt-S, -B, -XL (no LayerScale)",
    recognises=_recognises,
    prefer_prefixes=addresses("model:backbone."),
)
