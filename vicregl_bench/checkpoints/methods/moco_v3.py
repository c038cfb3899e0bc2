"""MoCo v3 (Chen, Xie, He, ICCV 2021), as its released training code saves it.

Source: the paper and facebookresearch/moco-v3, moco/builder.py, vits.py.
Files: `r-50-*.pth.tar`, `vit-{s,b}-300ep.pth.tar` hold `epoch`, `arch`, `state_dict`, `optimizer`;
the backbone is `module.base_encoder.`. Dropped: the momentum encoder, the predictor and the MLP
(`head.`, in ResNets `fc.`). Its ViT-S has 12 heads, everybody else's 6, in the same shapes; what
convert_to_deit.py leaves (`model`, no prefix) does not tell that it is MoCo v3's. Positions are
fixed sines and cosines, and in the file.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_groups
from vicregl_bench.checkpoints.methods.published import table_2, table_9
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "base_encoder", "momentum_encoder")


READER = Reader(
    card=Card(
        method="moco_v3",
        title="MoCo v3",
        source="facebookresearch/moco-v3, main_moco.py and vits.py",
        note="Its ResNet-50 was trained with LARS: try the detection preset lars too.",
        references=(
            *table_2("MoCo v3 ViT-S", "vit_small_patch16_12heads", 73.2, 57.1, 23.7),
            *table_2("MoCo v3 ViT-B", "vit_base_patch16", 76.7, 64.8, 28.7),
            *table_9("Moco-v3 ViT-B", "vit_base_patch16", 69.8, 54.1),
        ),
    ),
    files="vit-{s,b}-300ep.pth.tar, r-50-*.pth.tar: `state_dict`, `module.base_encoder.`",
    architectures="ViT-S (12 heads), ViT-B, ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:base_encoder."),
    prefer_archs=("vit_small_patch16_12heads",),
)
