"""iBOT (Zhou et al., ICLR 2022), as its released training code saves it.

Source: the paper and bytedance/ibot, main_ibot.py, evaluation/.
Files: `checkpoint_teacher.pth` holds the teacher's backbone alone in `state_dict`, no prefix, and
cannot be told from another bare ViT. `checkpoint.pth` holds `student`, `teacher`, `optimizer`,
`epoch`, `args` (an argparse.Namespace), `ibot_loss`; the paper evaluates the teacher, `backbone.`
in `teacher`. Dropped: the student with its `masked_embed`, by which iBOT is told from DINO, and
both heads.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses
from vicregl_bench.checkpoints.methods.published import table_2
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return contents.get("teacher") is not None and any(
        key.rpartition(".")[2] == "masked_embed"
        for found in contents.containers
        for key in found.tensors
    )


READER = Reader(
    card=Card(
        method="ibot",
        title="iBOT",
        source="bytedance/ibot, evaluation/eval_linear.py and evaluation/semantic_segmentation",
        references=(
            *table_2("IBOT ViT-S", "vit_small_patch16", 77.9, 68.2, 33.2),
            *table_2("IBOT ViT-B", "vit_base_patch16", 79.5, 73.0, 38.3),
        ),
    ),
    files="checkpoint_teacher.pth: `state_dict`, bare; checkpoint.pth: `teacher`, `backbone.`",
    architectures="ViT-S, ViT-B, ViT-L, Swin-T",
    recognises=_recognises,
    prefer_prefixes=(*addresses("teacher:backbone."), "state_dict"),
)
