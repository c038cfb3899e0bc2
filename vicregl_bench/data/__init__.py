"""Data sets: what is in them, whether it is sound, what identifies it, and made-up ones.

`voc` reads lists, `fingerprint` identifies a set, `check` decodes all of it once, `scene` draws
labelled pictures and `generate` writes them in a real layout. Imports neither torch nor mmengine.
"""

from vicregl_bench.data.check import CheckReport, Problem, check_segmentation, require_sound
from vicregl_bench.data.fingerprint import Fingerprint, fingerprint, stat_key
from vicregl_bench.data.generate import make_voc
from vicregl_bench.data.voc import (
    CLASSES,
    IGNORE,
    Pair,
    VocSegmentation,
    palette,
    read_voc_segmentation,
    split_holdout,
)

__all__ = [
    "CLASSES",
    "IGNORE",
    "CheckReport",
    "Fingerprint",
    "Pair",
    "Problem",
    "VocSegmentation",
    "check_segmentation",
    "fingerprint",
    "make_voc",
    "palette",
    "read_voc_segmentation",
    "require_sound",
    "split_holdout",
    "stat_key",
]
