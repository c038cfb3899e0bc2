"""Checkpoints of lightly's examples and benchmarks, whatever their method.

Source: lightly-ai/lightly, examples/pytorch_lightning and benchmarks/imagenet.
Files: `*.ckpt` of Lightning holds `state_dict` and more; the backbone is `backbone.`, in the
examples an nn.Sequential whose children have numbers (0, 1, 4, 5, 6, 7 = conv1, bn1, layer1..4).
What the method's paper evaluates is taken: of the benchmark's MoCo `query_backbone.` (its
`backbone.` is the key encoder), of DINO's examples `teacher_backbone.`, else `backbone.`. Dropped:
the other branch, heads (`projection_head.layers.`), prototypes, the online classifier.
"""

import re

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, plain
from vicregl_bench.checkpoints.reader import Reader

_HEAD = re.compile(r"(\w+_)?head\.layers\.")


def _recognises(contents: Contents) -> bool:
    return any(
        any(group.endswith("backbone") for group in found.groups())
        and any(_HEAD.match(plain(key)) for key in found.tensors)
        for found in contents.containers
    )


READER = Reader(
    card=Card(
        method="lightly",
        title="lightly",
        source="lightly-ai/lightly, transforms/utils.py: IMAGENET_NORMALIZE",
        note="The keys do not tell the method; name it with --method.",
    ),
    files="*.ckpt: `state_dict`, `backbone.` (children numbered or named)",
    architectures="ResNets, ViTs",
    recognises=_recognises,
    prefer_prefixes=addresses(
        "state_dict:query_backbone.", "state_dict:backbone.", "state_dict:teacher_backbone."
    ),
)
