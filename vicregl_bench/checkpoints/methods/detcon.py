"""DetCon-B (Henaff et al., ICCV 2021), as DeepMind publishes it.

Source: the paper and google-deepmind/detcon, README.md, detcon_b.py, utils/networks.py.
Files: `resnet50_detcon_b_imagenet_1k.npy` is a pickled dict of haiku trees, and needs
`--trust-pickle` where the pickle names more than NumPy's types; module names as in BYOL's release
(`res_net50/~/initial_conv`), kernels HWIO, parameters and BatchNorm's moving averages in two trees,
which are joined here. Dropped: projector, predictor and classifier.
"""

import dataclasses

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.names import join_haiku
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return any(
        key.endswith("initial_conv/w") for found in contents.containers for key in found.tensors
    )


def _rearrange(contents: Contents) -> Contents:
    """Add a container for each pair of trees of parameters and of moving averages."""
    joined: list[Container] = []
    for found in contents.containers:
        state = contents.get(found.name.removesuffix("params") + "state")
        if found.name.endswith("params") and state is not None:
            tensors = join_haiku(found.tensors, state.tensors)
            joined.append(Container(f"{found.name} and {state.name}", tensors))
    return dataclasses.replace(contents, containers=(*contents.containers, *joined))


READER = Reader(
    card=Card(
        method="detcon",
        title="DetCon",
        source="google-deepmind/detcon, detcon_b.py (normalize_images) and detcon_b_config.py",
        note=(
            "Trained with padding SAME, which at even sizes adds one pixel more on the right and "
            "below; here it is symmetric. Trained with LARS, as BYOL."
        ),
        detection_preset="lars",
        references=(*table_1("DetCon", 66.3, 53.6, 16.2), *table_8("DetCon", 66.1)),
    ),
    files="*_detcon_b_*.npy: pickled haiku trees `params` and `state`",
    architectures="ResNet-50, ResNet-200",
    recognises=_recognises,
    rearrange=_rearrange,
)
