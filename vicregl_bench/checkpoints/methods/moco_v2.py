"""MoCo v2 (Chen, Fan, Girshick, He, 2020), as its released training code saves it.

Source: the report (arXiv 2003.04297) and facebookresearch/moco, main_moco.py, moco/builder.py.
Files: `moco_v2_{200,800}ep_pretrain.pth.tar` holds `epoch`, `arch`, `state_dict`, `optimizer`; the
backbone is the query encoder, `module.encoder_q.` (`encoder_q.` when trained on one GPU). Dropped:
the key encoder, the queue and the MLP `fc.0`, `fc.2`. MoCo v1 has one linear `fc` there instead,
and is not taken for v2.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, in_groups, plain
from vicregl_bench.checkpoints.methods.published import table_1, table_8, table_9
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return any(
        "backbone" not in found.groups()
        and any(plain(key) == "encoder_q.fc.2.weight" for key in found.tensors)
        for found in in_groups(contents, "encoder_q", "encoder_k", "queue")
    )


READER = Reader(
    card=Card(
        method="moco_v2",
        title="MoCo v2",
        source="facebookresearch/moco, main_moco.py",
        references=(
            *table_1("MoCo v2", 67.5, 35.6, 14.3),
            *table_8("MoCo v2", 60.5),
            *table_9("MoCo v2 R50", "resnet50", 57.0, 41.3),
        ),
    ),
    files="moco_v2_*ep_pretrain.pth.tar: `state_dict`, `module.encoder_q.`",
    architectures="ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:encoder_q."),
)
