"""Checkpoints of MMSelfSup, OpenSelfSup and MMPretrain's self-supervised methods, whatever method.

Source: open-mmlab/mmselfsup, models/algorithms.
Files: `*.pth` holds `meta`, `state_dict` and, of training, `optimizer`, `message_hub`; the backbone
is `backbone.` (MoCo's once more, the same tensors, as `encoder_q.0.`). Dropped: `neck`, `head`, the
momentum branch (`encoder_k`, `target_net`, `momentum_backbone`), queues. What mmengine saves of
other models has no neck of this kind, and is taken for a bare backbone.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, in_groups
from vicregl_bench.checkpoints.reader import Reader

_PARTS = frozenset(
    {
        *("backbone", "neck", "head", "data_preprocessor"),
        *("encoder_q", "encoder_k", "queue", "queue_ptr"),
        *("online_net", "target_net", "teacher", "target_generator", "momentum_backbone"),
        *("loss", "prototypes", "memory_bank"),
    }
)


def _recognises(contents: Contents) -> bool:
    return any(found.groups() <= _PARTS for found in in_groups(contents, "backbone", "neck"))


READER = Reader(
    card=Card(
        method="mmselfsup",
        title="MMSelfSup",
        source="open-mmlab/mmselfsup, configs/selfsup/_base_/datasets: ImageNet mean and std, RGB",
        note="The keys do not tell the method; name it with --method.",
    ),
    files="*.pth: `state_dict`, `backbone.`",
    architectures="ResNets",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:backbone."),
)
