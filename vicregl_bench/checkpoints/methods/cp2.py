"""CP2 (Wang et al., ECCV 2022), as its released training code, built on MoCo and mmseg, saves it.

Source: the paper and wangf3014/CP2, builder.py, main.py, mmseg/models/backbones/vit.py.
Files: `cp2-*.pth` holds `epoch`, `state_dict`, `optimizer`; the backbone is that of the query
encoder, `module.encoder_q.backbone.`, with or without `module.`. Dropped: the decode head, the key
encoder and the queue. Its ViT is saved without a final norm where the config has none, and is then
refused as incomplete.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_start
from vicregl_bench.checkpoints.methods.published import table_1, table_2, table_8
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_start(contents, "encoder_q.backbone.")


READER = Reader(
    card=Card(
        method="cp2",
        title="CP2",
        source="wangf3014/CP2, main.py",
        note="How many heads its ViT-S has stands neither in the paper's config nor in the file.",
        references=(
            *table_1("CP2", 53.1, 21.7, 8.4),
            *table_2("CP2 ViT-S", "vit_small_patch16", 62.8, 63.5, 25.3),
            *table_8("CP2", 57.9),
        ),
    ),
    files="cp2-*.pth: `state_dict`, `module.encoder_q.backbone.`",
    architectures="ResNet-50, ViT-S",
    recognises=_recognises,
    prefer_prefixes=addresses("state_dict:encoder_q.backbone."),
)
