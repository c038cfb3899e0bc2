"""Data sets: what is in them, whether it is sound, what identifies it, and made-up ones.

`segmentation` says what a data set is, `voc`, `cityscapes` and `ade20k` read their lists, `catalog`
chooses by name, `fingerprint` identifies a set, `check` decodes all of it once, `scene` draws
labelled pictures, `generate` writes them in a real layout and `made_folder` guards where. Imports
neither torch nor mmengine.
"""

from vicregl_bench.data.catalog import SEGMENTATION_SETS, class_colours, read_segmentation
from vicregl_bench.data.check import CheckReport, Problem, check_segmentation, require_sound
from vicregl_bench.data.fingerprint import Fingerprint, fingerprint, stat_key
from vicregl_bench.data.generate import make_ade20k, make_cityscapes, make_voc
from vicregl_bench.data.segmentation import (
    IGNORE,
    MaskValues,
    Pair,
    SegmentationData,
    read_mask,
    split_holdout,
)
from vicregl_bench.data.voc import CLASSES, palette, read_voc_segmentation

__all__ = [
    "CLASSES",
    "IGNORE",
    "SEGMENTATION_SETS",
    "CheckReport",
    "Fingerprint",
    "MaskValues",
    "Pair",
    "Problem",
    "SegmentationData",
    "check_segmentation",
    "class_colours",
    "fingerprint",
    "make_ade20k",
    "make_cityscapes",
    "make_voc",
    "palette",
    "read_mask",
    "read_segmentation",
    "read_voc_segmentation",
    "require_sound",
    "split_holdout",
    "stat_key",
]
