"""Checkpoints of VISSL (Goyal et al. 2021): SimCLR, SwAV and others trained with it.

Source: facebookresearch/vissl, models/trunks and extra_scripts (convert_vissl_to_detectron2.py).
Files: `model_final_checkpoint_phase*.torch`; the backbone is `_feature_blocks.` in
`classy_state_dict.base_model.model.trunk`. Dropped: `heads` beside the trunk. The method stands
in no key; do not name `--method simclr`: VISSL's SimCLR takes ImageNet's mean and standard
deviation, which SimCLR's own weights do not.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Contents
from vicregl_bench.checkpoints.methods.marks import has_groups
from vicregl_bench.checkpoints.reader import Reader


def _recognises(contents: Contents) -> bool:
    return has_groups(contents, "_feature_blocks")


READER = Reader(
    card=Card(
        method="vissl",
        title="VISSL",
        source="facebookresearch/vissl, configs/config/pretrain: ImageNet mean and std",
        note=(
            "Any method trained with VISSL; its SimCLR and SwAV were trained with LARC, as LARS."
        ),
        detection_preset="lars",
    ),
    files="*.torch: `classy_state_dict.base_model.model.trunk`, `_feature_blocks.`",
    architectures="ResNet-50 and wider, ResNet-101",
    recognises=_recognises,
    prefer_prefixes=("classy_state_dict.base_model.model.trunk._feature_blocks.",),
)
