"""A backbone whose method its keys do not tell.

Source: none.
Files: any state dict that holds a backbone and nothing that names a method, among them the
backbone-only releases of VICReg, VICRegL, Barlow Twins, BYOL (converted), DenseCL (extracted),
DINO, iBOT and MAE: no classifier, in no container or in one such as `model` or `state_dict`.
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
    files="any state dict of a backbone alone",
    architectures="all that this project knows",
    recognises=_recognises,
)
