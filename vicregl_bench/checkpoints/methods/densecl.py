"""DenseCL (Wang et al., CVPR 2021), as OpenSelfSup saves it.

Source: the paper and WXinlong/DenseCL, openselfsup/models/densecl.py,
tools/extract_backbone_weights.py.
Files: `densecl_r50_*.pth`, extracted, holds `state_dict` with torchvision's names, no prefix, and
cannot be told from another bare backbone. Raw checkpoints hold `meta`, `state_dict`, `optimizer`;
the backbone is `backbone.`, and once more, the same tensors, `encoder_q.0.`. Dropped: the necks
(`encoder_q.1.`), the key encoder and both queues.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_groups
from vicregl_bench.checkpoints.methods.published import table_1, table_8, table_9
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "backbone", "queue", "queue2")


READER = Reader(
    card=Card(
        method="densecl",
        title="DenseCL",
        source="WXinlong/DenseCL, configs/selfsup/densecl",
        references=(
            *table_1("DenseCL", 65.0, 45.3, 11.2),
            *table_8("DenseCL", 63.8),
            *table_9("DenseCL R50", "resnet50", 58.7, 43.0),
        ),
    ),
    files="densecl_r50_*.pth: `state_dict`, bare; raw: `state_dict`, `backbone.`",
    architectures="ResNet-50, ResNet-101",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:backbone.", "state_dict:encoder_q.0."),
)
