"""A backbone whose method its keys do not tell.

Files: any state dict that holds a backbone and nothing that names a method, among them the
backbone-only releases of VICReg, VICRegL and Barlow Twins (no container, no prefix, no `fc`).
Nothing is dropped but what lies outside the prefix found. Name the method with `--method`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return bool(contents.containers)


READER = Reader(
    card=Card(
        method="bare",
        title="Backbone of unknown method",
        source="none: ImageNet normalisation is assumed",
        note="The keys do not tell the method; name it with --method.",
    ),
    recognises=_recognises,
)
