"""VICRegL (Bardes, Ponce, LeCun, NeurIPS 2022), as its released training code saves it.

Files: `<arch>_alpha<a>.pth` holds the backbone alone (no container, no prefix) and cannot be told
from any other bare backbone. `*_fullckpt.pth` holds `epoch`, `model`, `optimizer`; the backbone is
`module.backbone.` in `model`. Dropped beside it: `module.maps_projector.` (absent for alpha = 1),
`module.projector.` (absent for alpha = 0) and the online `module.classifier.`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
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
    ),
    recognises=_recognises,
    prefer_prefixes=("model.module.backbone.", "model.backbone."),
)
