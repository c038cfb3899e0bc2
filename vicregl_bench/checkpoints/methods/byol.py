"""BYOL (Grill et al., NeurIPS 2020), converted to PyTorch, and trained by yaox12/BYOL-PyTorch.

Source: the paper; deepmind-research, byol; yaox12/BYOL-PyTorch, model/ and trainer/.
Files: DeepMind's `pretrain_res50x1.pkl` needs its own classes to be unpickled; what its converters
leave, `pretrain_res50x1.pth.tar`, is a bare backbone (no container, no prefix, no counters) and
cannot be told from another. BYOL-PyTorch's checkpoints hold `model`; the backbone is
`module.online_network.encoder.`, an nn.Sequential whose children have numbers. Dropped: the target
network, the projection (spelt `projetion`) and the predictor.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_groups
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "online_network", "target_network")


READER = Reader(
    card=Card(
        method="byol",
        title="BYOL",
        source="deepmind-research, byol/utils/dataset.py; BYOL-PyTorch, readme.md",
        note=(
            "DeepMind's weights were trained with padding SAME, which at even sizes adds one pixel "
            "more on the right and below; here it is symmetric."
        ),
        detection_preset="lars",
        references=(*table_1("BYOL", 72.3, 47.1, 22.6), *table_8("BYOL", 62.0)),
    ),
    files="pretrain_res50x1.pth.tar (converted): bare; BYOL-PyTorch: `model`, "
    "`module.online_network.encoder.`",
    architectures="ResNet-50, ResNet-200 x2",
    recognises=_recognises,
    prefer_prefixes=addresses("model:online_network.encoder."),
)
