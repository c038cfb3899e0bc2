"""MAE (He et al., CVPR 2022), as its released training code saves it.

Source: the paper and facebookresearch/mae, models_mae.py, main_linprobe.py.
Files: `mae_pretrain_vit_*.pth` holds the encoder alone in `model`, no prefix; so does what MoCo v3
converts, so it cannot be told from another bare ViT. `mae_visualize_vit_*.pth` and training
checkpoints (with `optimizer`, `epoch`, `scaler`, `args`, an argparse.Namespace) hold the decoder
too, by which it is told. Dropped: `mask_token` and all of `decoder_*`. Positions are fixed sines
and cosines, and in the file; there is no `fc_norm`.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import addresses, has_keys
from vicregl_bench.checkpoints.methods.published import table_2
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_keys(contents, "mask_token", "decoder_pos_embed", "decoder_embed.weight")


READER = Reader(
    card=Card(
        method="mae",
        title="MAE",
        source="facebookresearch/mae, main_linprobe.py: class token by default (global_pool False)",
        pooling="cls",
        references=table_2("MAE ViT-B", "vit_base_patch16", 68.0, 59.6, 27.0),
    ),
    files="mae_pretrain_vit_*.pth: `model`, bare; mae_visualize_vit_*.pth: `model`, no prefix",
    architectures="ViT-B, ViT-L, ViT-H with patches of 14",
    recognises=_recognises,
    prefer_prefixes=addresses("model:"),
)
