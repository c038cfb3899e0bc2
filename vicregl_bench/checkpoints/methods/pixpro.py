"""PixPro (Xie et al., CVPR 2021), as its released training code saves it.

Source: the paper and zdaxie/PixPro, contrast/models/PixPro.py, main_pretrain.py, publish_model.py.
Files: `pixpro_base_r50_*.pth` holds `model` (training checkpoints `opt`, an argparse.Namespace,
`optimizer`, `scheduler`, `epoch` too); the backbone is `module.encoder.`. Dropped: the momentum
branch (`encoder_k`, `projector_k`), `projector`, `value_transform` and the instance branch.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_groups
from vicregl_bench.checkpoints.methods.published import table_1, table_8
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "encoder", "encoder_k", "projector", "projector_k")


READER = Reader(
    card=Card(
        method="pixpro",
        title="PixPro",
        source="zdaxie/PixPro, contrast/data and transfer/detection/configs",
        note=(
            "Trained with LARS, but the authors' own detection on VOC runs with MoCo's schedule "
            "and reaches AP 60.2."
        ),
        references=(*table_1("PixPro", 60.6, 52.8, 22.6), *table_8("PixPro", 61.7)),
    ),
    files="pixpro_base_r50_*.pth: `model`, `module.encoder.`",
    architectures="ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("model:encoder."),
)
