"""Checkpoints of solo-learn (da Costa et al., JMLR 2022), whatever their method.

Source: vturrisi/solo-learn, solo/methods/base.py.
Files: `*.ckpt` of Lightning holds `state_dict` and more; the backbone is `backbone.`, in
old versions `encoder.`. Dropped: the momentum branch, projectors, predictors, queues and the
online `classifier.`. The method stands in no key for sure: name it with `--method`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.checkpoints.methods.marks import addresses, in_groups
from vicregl_bench.checkpoints.reader import Reader

_HEADS = frozenset({"projector", "momentum_backbone", "momentum_encoder", "momentum_projector"})


def _is_ours(found: Container) -> bool:
    groups = found.groups()
    return bool(groups & {"backbone", "encoder"}) and bool(groups & _HEADS)


def _recognises(contents: Contents) -> bool:
    return any(
        found.name == "state_dict" and _is_ours(found)
        for found in in_groups(contents, "classifier")
    )


READER = Reader(
    card=Card(
        method="solo_learn",
        title="solo-learn",
        source="vturrisi/solo-learn, solo/data/pretrain_dataloader.py",
        note="The keys do not tell the method; name it with --method.",
    ),
    files="*.ckpt: `state_dict`, `backbone.` (old: `encoder.`)",
    architectures="ResNets, ViTs, ConvNeXts, Swins",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:backbone.", "state_dict:encoder."),
)
