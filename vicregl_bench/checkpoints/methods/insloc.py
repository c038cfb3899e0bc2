"""InsLoc (Yang et al., CVPR 2021), as its released training code, built on mmdetection, saves it.

Source: the paper and limbo0000/InstanceLoc, mmdet/models/detectors,
transfer/detection/convert_pretrained.py.
Files: `insloc_*.pth` holds `meta`, `state_dict`, `optimizer`; the backbone is `backbone.`. In the
C4 model its last stage is `roi_head.shared_head.layer4.`, and is joined to it here. Dropped: the
key branch (`backbone_k`, `roi_head_k`, ...), necks, heads and queues. Without layer4 in either
place a file is incomplete, and refused.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.join import join_stage
from vicregl_bench.checkpoints.methods.marks import addresses, has_groups
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "backbone", "backbone_k")


def _rearrange(contents: Contents) -> Contents:
    return join_stage(contents, "roi_head.shared_head.layer4.", "backbone.layer4.")


READER = Reader(
    card=Card(
        method="insloc",
        title="InsLoc",
        source="limbo0000/InstanceLoc, configs: ImageNet mean and std on RGB",
        references=(*table_1("InsLoc", 45.0, 24.1, 7.0), *table_8("InsLoc", 58.1)),
    ),
    files="insloc_*.pth: `state_dict`, `backbone.` (C4: layer4 in `roi_head.shared_head.`)",
    architectures="ResNet-50 (C4, FPN)",
    recognises=_recognises,
    prefer_prefixes=("state_dict (res5 joined).backbone.", *addresses("state_dict:backbone.")),
    rearrange=_rearrange,
)
