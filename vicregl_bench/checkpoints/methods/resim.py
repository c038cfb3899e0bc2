"""ReSim (Xiao et al., ICCV 2021), as its released training code saves and converts it.

Source: the paper and Tete-Xiao/ReSim, moco/builder.py, moco/models.py,
detection/convert-pretrain-to-detectron2.py.
Files: `resim_*.pth.tar` holds `epoch`, `arch`, `state_dict`, `optimizer`; the backbone is the query
encoder, `module.encoder_q.`. Converted, `model` holds it under detectron2's names, no prefix.
Dropped: the key encoder, the queue, `fc` and the feature pyramid (`fpn_lateral*`, `fpn_output*`),
by which it is told from MoCo v2: what is saved without one is taken for that.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_start, in_groups
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_start(contents, "encoder_q.fpn_") or any(
        any(key.startswith("backbone.fpn_") for key in found.tensors)
        for found in in_groups(contents, "stem", "res5")
    )


READER = Reader(
    card=Card(
        method="resim",
        title="ReSim",
        source="Tete-Xiao/ReSim, main_moco.py",
        references=(*table_1("ReSim", 59.5, 51.9, 12.3), *table_8("ReSim", 62.7)),
    ),
    files="resim_*.pth.tar: `state_dict`, `module.encoder_q.`; *.pkl (converted): `model`",
    architectures="ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:encoder_q."),
)
