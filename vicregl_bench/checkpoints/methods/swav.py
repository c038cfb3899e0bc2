"""SwAV (Caron et al., NeurIPS 2020) and its siblings, as their own code saves them.

Source: the paper and facebookresearch/swav, src/resnet50.py, main_swav.py.
Files: `swav_*_pretrain.pth.tar` is a state dict with `module.` before every key (training
checkpoints have it in `state_dict`). Dropped: `module.projection_head.` and `module.prototypes.`.
DeepCluster-v2 and SeLa-v2 are published in the same layout, and are taken for SwAV.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import has_groups
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "conv1", "layer4", "prototypes")


READER = Reader(
    card=Card(
        method="swav",
        title="SwAV",
        source="facebookresearch/swav, src/multicropdataset.py",
        std=(58.14, 57.12, 57.375),
        note=(
            "Normalised as in its code, with a standard deviation of 0.228 in the red channel; "
            "DeepCluster-v2 and SeLa-v2 look the same."
        ),
        detection_preset="lars",
    ),
    files="swav_*_pretrain.pth.tar: no container, `module.`",
    architectures="ResNet-50, ResNet-50 x2, x4, x5",
    recognises=_recognises,
)
