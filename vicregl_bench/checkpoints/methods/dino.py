"""DINO (Caron et al., ICCV 2021), as its released training code saves it.

Source: the paper and facebookresearch/dino, main_dino.py, eval_linear.py.
Files: `*_pretrain.pth` holds the teacher's backbone alone (no container, no prefix) and cannot be
told from another bare ViT or ResNet. `*_full_checkpoint.pth` holds `student`, `teacher`,
`optimizer`, `epoch`, `args` (an argparse.Namespace), `dino_loss`; the paper evaluates the teacher,
`backbone.` in `teacher` (`module.backbone.` of networks with BatchNorm). Dropped: the student and
both heads.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses
from vicregl_bench.checkpoints.methods.published import table_2, table_9
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    branches = [contents.get(name) for name in ("student", "teacher")]
    return all(branch and branch.groups() == {"backbone", "head"} for branch in branches)


READER = Reader(
    card=Card(
        method="dino",
        title="DINO",
        source="facebookresearch/dino, eval_linear.py",
        note=(
            "The paper's linear classification joins the class tokens of ViT-S's last four blocks, "
            "and of ViT-B's last block the class token and the mean."
        ),
        references=(
            *table_2("DINO ViT-S", "vit_small_patch16", 77.0, 65.2, 30.5),
            *table_2("DINO ViT-B", "vit_base_patch16", 78.2, 70.1, 34.5),
            *table_9("DINO ViT-B", "vit_base_patch16", 74.5, 58.4),
        ),
    ),
    files="*_pretrain.pth: bare; *_full_checkpoint.pth: `teacher`, `backbone.`",
    architectures="ViT-S and ViT-B with patches of 16 and 8, ResNet-50",
    recognises=_recognises,
    prefer_prefixes=addresses("teacher:backbone."),
)
