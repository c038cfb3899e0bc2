"""Detectors of detectron2's model zoo (Wu et al. 2019).

Source: facebookresearch/detectron2, modeling/backbone/resnet.py, modeling/roi_heads, MODEL_ZOO.md.
Files: `model_final_*.pkl` holds `model` (NumPy arrays) and `__author__`; the backbone is
`backbone.bottom_up.` (FPN) or `backbone.` (C4, whose last stage `roi_heads.res5.` is joined to it
here). Dropped: the pyramid, the proposals, the heads. MSRA's `R-50.pkl`, in Caffe2's names, is not
read. What is converted from PyTorch has no such prefix, and is `detectron2_rgb`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.join import join_stage
from vicregl_bench.checkpoints.methods.marks import addresses, has_start
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_start(contents, "backbone.res2.0.") or has_start(
        contents, "backbone.bottom_up.res2.0."
    )


def _rearrange(contents: Contents) -> Contents:
    return join_stage(contents, "roi_heads.res5.", "backbone.res5.")


READER = Reader(
    card=Card(
        method="detectron2",
        title="detectron2",
        source="facebookresearch/detectron2, config/defaults.py: PIXEL_MEAN, PIXEL_STD, FORMAT",
        mean=(103.53, 116.28, 123.675),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
        note=(
            "BGR input, no standard deviation, stride in the first 1x1, as MSRA's ResNets that the "
            "model zoo starts from. A detector fine-tuned from converted weights (MoCo's) takes "
            "RGB, a standard deviation and the stride in the 3x3: say so in a card beside the file."
        ),
    ),
    files="model_final_*.pkl: `model`, `backbone.bottom_up.` or `backbone.` (C4: res5 in "
    "`roi_heads.`)",
    architectures="ResNet-50, ResNet-101 (v1)",
    recognises=_recognises,
    prefer_prefixes=(
        "model (res5 joined).backbone.",
        *addresses("model:backbone.bottom_up.", "model:backbone."),
    ),
    prefer_archs=("resnet50_v1", "resnet101_v1"),
    rearrange=_rearrange,
)
