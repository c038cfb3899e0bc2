"""SimCLR (Chen et al., ICML 2020), converted from TensorFlow.

Source: the paper; google-research/simclr; tonylins/simclr-converter, convert.py.
Files: `resnet50-1x.pth` holds `state_dict` with torchvision's names, no prefix; `fc.` (the linear
classifier trained on top) is dropped. Nothing in it tells it from a supervised model, so it is
never recognised: name it with `--method simclr`, or it is normalised as it should not be.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.methods.marks import addresses, never
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.reader import Reader

READER = Reader(
    card=Card(
        method="simclr",
        title="SimCLR",
        source="google-research/simclr, data_util.py; tonylins/simclr-converter, README.md",
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        note="The input lies in [0, 1], without mean and standard deviation.",
        detection_preset="lars",
        references=(*table_1("SimCLR", 68.2, 45.9, 17.9), *table_8("SimCLR", 62.7)),
    ),
    files="resnet50-1x.pth (converted): `state_dict`, no prefix, with `fc`; needs --method simclr",
    architectures="ResNet-50, ResNet-50 x2, x4",
    recognises=never,
    prefer_prefixes=addresses("state_dict:"),
)
